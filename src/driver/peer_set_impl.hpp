// The insides of peer_set.hpp, in two files: peer_set.cpp (connections and what comes over them)
// and peer_set_view.cpp (what is known of the peers, and who says so).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "driver/peer_set.hpp"
#include "net/event.hpp"

namespace farmesh::driver {

/// One address, whoever answers there.
struct Known {
  std::string address;  // empty: forgotten, and free for another
  bool local = false;
  std::shared_ptr<net::Connection> connection;  // open, or none
  std::shared_ptr<net::Event> dialling;         // while a dial is under way; set at its end
  NodeId node_id{};                             // that the latest connection proved
  std::string endpoint;                         // numeric, of that connection
  std::optional<wire::Service> service;         // as last told
  bool other_class = false;                     // refused for that alone
  Duration round_trip{};                        // EWMA of what refresh() measured
  TimePoint round_trip_at{};
  Duration layer_time{};
  TimePoint layer_time_at{};
  std::uint32_t layer_samples = 0;
  bool single_rows = false;  // layer_time is of them; rows of one step share passes
  wire::Pong load;           // as refresh() was told
  TimePoint load_at{};
  bool refreshing = false;
  std::optional<PeerClaims> claims;
  TimePoint claims_at{};
  int failures = 0;  // in a row
  TimePoint banned_until{};
  Error last_failure;
};

/// The way from one peer to another, as a stage measured it.
struct Link {
  Duration way{};
  TimePoint at{};
};

struct PeerSet::Impl : std::enable_shared_from_this<PeerSet::Impl> {
  using Connected = Result<std::shared_ptr<net::Connection>>;
  struct Round {  // of connect_all()
    explicit Round(net::Clock& clock) : over(clock) {}
    net::Event over;
    std::size_t pending = 0;
    bool until_one = false;
    std::vector<std::pair<std::string, Error>> failures;
  };

  Impl(net::Transport& t, PeerSetOptions o) : transport(t), options(std::move(o)) {}

  net::Clock& clock() noexcept { return transport.clock(); }
  Known* find(const std::string& address);
  Known& find_or_add(const std::string& address);

  static net::Task<Connected> dial(std::shared_ptr<Impl> self, Known& peer, TimePoint deadline,
                                   bool any_class = false);
  static net::Task<void> dial_in_round(std::shared_ptr<Impl> self, Known& peer, TimePoint deadline,
                                       std::shared_ptr<Round> round);
  net::Connection::Identity identity();
  net::Connection::FrameHandler frame_handler(Known& peer);
  net::Connection::CloseHandler close_handler(Known& peer);
  Connected welcome(Known& peer, Connected connection, bool any_class);
  Result<void> check(const Known& peer, const wire::Service& service);
  Result<void> check_class(const Known& peer, const wire::Service& service) const;
  static net::Task<void> refresh(std::shared_ptr<Impl> self, Known& peer);
  bool in_view(const Known& peer, bool any_class) const;
  void adopt(const wire::Service& service);

  void failed(Known& peer, const Error& error);
  void lost(Known& peer, const Error& error);
  void dispatch(const Known& peer, const std::shared_ptr<net::Connection>& connection,
                wire::Frame frame);
  void take_receipt(const std::shared_ptr<net::Connection>& connection, const wire::Frame& frame);
  static void ask_for_receipts(net::Connection& connection,
                               std::span<const wire::AccountId> accounts);
  void ask_for_missed_receipts(net::Connection& connection);
  std::vector<std::shared_ptr<SessionHandler>> handlers() const;

  net::Transport& transport;
  PeerSetOptions options;
  std::vector<std::unique_ptr<Known>> peers;  // in the order they were added; never removed
  std::unordered_map<SessionId, std::weak_ptr<SessionHandler>, HashOfBytes> sessions;
  std::map<std::pair<std::string, std::string>, Link> links;  // from, to
  std::map<wire::AccountId, std::weak_ptr<Bill>> bills;
  std::size_t bills_purged = 0;  // how many were left when the dead were last cleared away
  std::uint64_t refused_receipts = 0;
  std::optional<wire::Service> first;  // whose shape all others must have
  bool closed = false;
};

}  // namespace farmesh::driver
