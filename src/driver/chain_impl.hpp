// The insides of chain.hpp, in six files: chain.cpp (steps and what peers tell), chain_stream.cpp
// (rows through hops), chain_watch.cpp (hops that are late), chain_plan.cpp (routes),
// chain_recovery.cpp (repairs), chain_standby.cpp (spare caches, hedges and better routes).
//
// A chain is sound when every hop is open and holds all committed positions. Whatever goes wrong
// with a hop marks it lost; whoever runs notices that the chain is no longer sound, returns to
// step(), and that calls establish() before it goes on. So a failure at any moment, during a
// repair as well, takes the same way.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "driver/chain.hpp"
#include "driver/patience.hpp"
#include "driver/ring_pace.hpp"
#include "net/event.hpp"

namespace farmesh::driver {

/// A peer that holds, or is being given, the cache of a hop, to take its place without a replay.
struct Standby {
  std::string address;
  Span span;
  std::shared_ptr<net::Connection> connection;
  Bill::Tally* tally = nullptr;  // as Hop has it
  std::uint32_t held = 0;        // positions it said it holds
  std::uint32_t max_step_rows = 0;
  std::uint32_t window_steps = 0;
  bool opened = false;
  bool copies = false;   // gets a copy of each step
  bool filling = false;  // fill() is under way
  bool failed = false;
  bool hedge = false;  // made for a hop that is slow just now
};

struct Hop {
  std::string address;
  Span span;
  std::shared_ptr<net::Connection> connection;  // the session was opened on it; none: not yet
  bool needs_open = true;
  std::optional<Error> lost;
  std::uint32_t held = 0;           // positions it surely holds
  std::uint32_t max_step_rows = 0;  // 0 until it was opened
  std::uint32_t window_steps = 0;
  HopReport report;
  Patience patience;             // of its own queue and compute times
  Bill::Tally* tally = nullptr;  // null: nobody pays, or not opened yet
  std::shared_ptr<Standby> standby;
  TimePoint standby_tried = TimePoint::min();

  explicit Hop(const PatienceOptions& options) : patience(options) {}
  bool was_open() const noexcept { return max_step_rows > 0; }
};

inline constexpr int kMaxFaults = 32;  // of one peer without a row committed

/// What this session remembers of a peer that failed it.
struct Standing {
  Error error;           // the last one
  TimePoint when{};      // it happened
  int tries = 0;         // that failed during the present repair
  int faults = 0;        // since a row was last committed; a loss of the link is the least of them
  bool full = false;     // it had no room, during the present repair
  bool useless = false;  // it will refuse this session for ever
};

/// Rows on their way through hops [first, last].
struct Flow {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::size_t first = 0;
  std::size_t last = 0;
  bool replay = false;
  bool from_history = false;  // sent by the hop before `first`; otherwise by this driver
  wire::Want want = wire::Want::nothing;
  std::function<void(const wire::StepReply&, Payload)> on_rows;  // each reply, in order
};

struct Examination;
struct Sighting;

struct Chain::Impl final : SessionHandler, std::enable_shared_from_this<Chain::Impl> {
  using Self = std::shared_ptr<Impl>;
  struct Reply {
    std::string address;
    wire::StepReply message;
    Payload payload;
    TimePoint arrived;
  };
  /// Rows that may yet be rejected, and where they were counted.
  struct Answered {
    std::uint32_t end = 0;
    std::uint32_t rows = 0;
    std::vector<Bill::Tally*> tallies;
  };
  struct InFlight {
    std::uint32_t position = 0;
    std::uint32_t count = 0;
    wire::Want want = wire::Want::nothing;
    TimePoint sent;
  };
  struct Progress;  // of one Flow

  Impl(PeerSet& p, Inputs i, ChainOptions o, std::function<void(const ChainEvent&)> e);

  // chain.cpp
  void on_frame(const std::string& address, wire::Frame frame) override;
  void on_peer_lost(const std::string& address, const Error& error) override;
  void on_error(const std::string& address, const wire::ErrorMessage& message);
  static net::Task<Result<std::uint32_t>> open(Self self);
  static net::Task<Result<void>> extend(Self self, std::uint32_t max_positions,
                                        std::vector<PageName> page_names);
  static net::Task<Result<Payload>> step(Self self, std::uint32_t from, std::uint32_t count,
                                         wire::Want want);
  net::Task<Result<void>> advance(std::uint32_t to, wire::Want want, std::vector<Payload>& parts);
  void commit(const wire::StepReply& reply);
  void reject(std::uint32_t position);
  void truncate(std::uint32_t position);
  void close();
  void close_on(Hop& hop);
  void close_session_on(const std::shared_ptr<net::Connection>& connection);
  wire::Open open_message(const net::Connection& connection, Span span) const;
  Bill::Tally* tally_of(const std::shared_ptr<net::Connection>& connection, Span span) const;
  void lose(Hop& hop, Error error);
  void lose_between(std::size_t sender, std::size_t receiver, Error error);
  Hop* find(const std::string& address);
  bool sound() const;
  bool any_lost() const;
  void tell(ChainEvent::Kind kind, const std::string& address, Span span,
            std::uint32_t positions = 0) const;
  net::Task<void> pause(Duration duration);
  TimePoint now() const { return peers.clock().now(); }
  Result<void> still_open() const;

  // chain_stream.cpp
  net::Task<Result<void>> stream(Flow flow);
  net::Task<Result<void>> send_chunk(const Flow& flow, Progress& progress);
  void receive(const Flow& flow, Progress& progress, Reply reply);
  Result<void> check(const Flow& flow, const Progress& progress, const Reply& reply) const;
  Result<Payload> rows_of(const Reply& reply) const;
  Result<Payload> as_sent(Payload rows) const;
  void note_times(const Flow& flow, const wire::StepReply& reply);
  std::uint32_t chunk_rows(const Flow& flow) const;
  std::uint32_t window(const Flow& flow) const;
  std::uint32_t rows_awaited(const Flow& flow, const Progress& progress) const;

  // chain_watch.cpp
  Duration late_after(std::uint32_t rows) const;
  Duration lost_after(std::uint32_t rows) const;
  Duration silence_of(const Hop& hop) const;
  net::Task<void> examine(const Flow& flow, Progress& progress);
  Sighting see(const Flow& flow, const Progress& progress, const Examination& examination) const;
  void judge(const Flow& flow, Progress& progress, const Sighting& sighting);
  void judge_slow(const Flow& flow, Progress& progress, std::size_t hop);
  static net::Task<void> probe(Self self, std::shared_ptr<Hop> hop, std::size_t index,
                               TimePoint deadline, std::shared_ptr<Examination> examination);

  // chain_recovery.cpp
  struct Repair;
  net::Task<Result<void>> establish();
  net::Task<Result<void>> fill_holes(Repair& repair);
  bool tries_again(const std::vector<std::shared_ptr<Hop>>& route) const;
  net::Task<bool> redial(Repair& repair);
  net::Task<Result<void>> wait_for_room(Repair& repair);
  void take_route(std::vector<std::shared_ptr<Hop>> route);
  Error without_route(const Repair& repair, Error error) const;
  Error first_loss() const;
  void discard_lost();
  net::Task<void> open_hops();
  static net::Task<void> open_one(Self self, std::shared_ptr<Hop> hop);
  void opened(Hop& hop, const wire::OpenReply& reply);
  net::Task<Result<void>> rebuild();
  net::Task<Result<void>> rebuild_hole(std::size_t begin, std::size_t end);
  net::Task<std::optional<std::size_t>> find_source(std::size_t hole, std::uint32_t from);
  net::Task<bool> start_replay(const Flow& flow);

  // chain_plan.cpp
  std::vector<route::PeerView> candidates() const;
  Result<std::vector<std::shared_ptr<Hop>>> planned() const;
  Result<std::vector<std::shared_ptr<Hop>>> planned_anew() const;
  std::shared_ptr<Hop> new_hop(const std::string& address, Span span) const;
  Result<route::Route> plan_part(std::vector<route::PeerView> views, Span layers) const;

  // chain_standby.cpp
  void keep_standbys();
  net::Task<void> catch_up();
  bool add_standby(const std::shared_ptr<Hop>& hop, bool hedge);
  std::optional<std::string> spare_for(const Hop& hop) const;
  static net::Task<void> look_around(Self self);
  static net::Task<void> fill(Self self, std::shared_ptr<Hop> hop,
                              std::shared_ptr<Standby> standby);
  net::Task<bool> open_standby(Standby& standby);
  net::Task<bool> replay_to(const std::shared_ptr<Hop>& hop, Standby& standby);
  net::Task<bool> send_inputs_to(Standby& standby, std::uint32_t to);
  void copy_to_standby(const wire::Frame& frame, const wire::Step& step);
  bool take_standby_reply(const std::string& address, const wire::StepReply& message);
  Standby* find_standby(const std::string& address);
  void drop_standby(Hop& hop);
  void drop_standby_at(const std::string& address);
  bool take_over(std::shared_ptr<Hop>& hop);
  void consider_moving();

  PeerSet& peers;
  Inputs inputs;
  ChainOptions options;
  std::function<void(const ChainEvent&)> on_event;
  Patience patience;
  RingPace ring;
  net::Event changed;  // something below did

  std::vector<std::shared_ptr<Hop>> hops;  // in route order; with holes while being repaired
  std::deque<Reply> replies;               // of the present epoch
  std::uint32_t epoch;
  bool needs_new_epoch = false;  // some hop may hold more than `positions`
  std::uint32_t positions = 0;   // committed
  std::uint32_t opening = 0;     // open_one() calls under way
  std::string numerics_class;    // of the route, once there was one; asked of every new hop
  bool established = false;      // at least once
  bool new_range = true;         // the next committed rows begin a range of their own
  bool replaying = false;        // the newest epoch carries rows below `positions`
  bool closed = false;

  std::map<std::string, Standing> standings;
  std::map<std::string, std::set<std::string>> cut_off;  // by sender: whom it could not reach
  std::set<std::string> without_history;  // could not replay what they said, in this repair
  std::vector<CommittedRows> committed;
  std::vector<Answered> answered;  // by the present step, if it is one of guesses
  bool guessing = false;           // it is
  std::uint32_t recoveries = 0;
  TimePoint last_progress{};  // when a row was last committed, or the step began
  bool any_class = false;     // nobody else is left: peers of other classes will do
  std::uint32_t numerics_changes = 0;
  std::uint32_t moves = 0;
  TimePoint next_move{};  // when a better route is next looked for
};

/// Rows under way, as stream() and examine() keep account of them.
struct Chain::Impl::Progress {
  std::uint32_t next_send = 0;
  std::uint32_t done = 0;
  std::deque<InFlight> in_flight;
  TimePoint last;       // when something was last answered, or sent after everything was
  TimePoint next_look;  // when the hops are next asked; min: not yet decided
  int looks = 0;        // since `last`
  // What the last look found, and since when it is found again and again.
  std::optional<std::size_t> seen_at;
  bool seen_cut = false;
  TimePoint seen_since;
};

}  // namespace farmesh::driver
