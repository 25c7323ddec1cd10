#include "node/doorway.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "discovery/reach_desk.hpp"
#include "discovery/relay_desk.hpp"
#include "net/event.hpp"
#include "net/tcp_address.hpp"
#include "node/bandwidth.hpp"
#include "route/planner.hpp"

namespace farmesh::node {
namespace {

using ConnectionPtr = std::shared_ptr<net::Connection>;
using discovery::RecordPtr;

constexpr int kAgree = 2;                          // as many that say the same are believed
constexpr std::size_t kMaxAsked = 6;               // until so many agree
constexpr std::size_t kMaxAnnounced = 4;           // numbers that one name stands for
constexpr std::size_t kMaxRelays = 8;              // dialled in search of one
constexpr std::size_t kCompared = 3;               // of those, the nearest is taken
constexpr int kMaxArriving = 16;                   // through the relay, at once
constexpr std::chrono::milliseconds kSettle{250};  // for more records to come before it asks
constexpr std::chrono::seconds kAskAgain{10};      // when too few could tell, at the earliest
constexpr std::chrono::seconds kLookAgain{5};      // for a relay
constexpr std::chrono::seconds kMeasuring{30};     // what it sends at

void tell(LogLevel level, const std::string& what) { log(level, "node", what); }

/// "HOST:PORT" of any form of a direct address.
std::string plain(const net::HostPort& place) {
  const bool v6 = place.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", place.host, v6 ? "]" : "", place.port);
}

std::mt19937 seeded() {
  std::array<std::uint8_t, 4> seed;
  random_bytes(seed);
  return std::mt19937(seed[0] | seed[1] << 8 | seed[2] << 16 |
                      static_cast<std::uint32_t>(seed[3]) << 24);
}

}  // namespace

struct Doorway::State : std::enable_shared_from_this<State> {
  enum class Verdict { unknown, direct, hidden };
  /// What others said: who answered, and at which address it was reached ("": at none).
  struct Finding {
    int asked = 0;
    int told = 0;
    std::map<std::string, int> votes;

    std::string best() const {
      return std::max_element(votes.begin(), votes.end(),
                              [](const auto& a, const auto& b) { return a.second < b.second; })
          ->first;  // of equals "", which comes first
    }
  };

  State(net::Transport& t, discovery::Directory& d, DoorwayOptions o, Events e)
      : transport(t),
        clock(t.clock()),
        directory(d),
        options(std::move(o)),
        events(std::move(e)),
        address(options.announced),
        reach(t),
        relay_desk(t),
        again(clock),
        random(seeded()) {
    options.hello.listen_address = options.announced;
    bandwidth_kbps = remembered_bandwidth(options.bandwidth_file, std::chrono::system_clock::now());
  }

  static net::Task<void> run(std::shared_ptr<State> self);
  static net::Task<void> resolve_own(std::shared_ptr<State> self);
  static net::Task<Finding> ask_others(std::shared_ptr<State> self);
  static net::Task<std::optional<std::string>> ask_one(std::shared_ptr<State> self,
                                                       std::string whom, std::string first);
  void judge(const Finding& finding);
  static net::Task<void> measure(std::shared_ptr<State> self);
  static net::Task<void> find_relay(std::shared_ptr<State> self);
  static net::Task<bool> be_kept(std::shared_ptr<State> self, ConnectionPtr connection);
  net::Task<Result<ConnectionPtr>> connect(std::string whom);
  void received(const ConnectionPtr& from, const wire::Frame& frame);
  void lost(const ConnectionPtr& connection);
  static net::Task<void> let_in(std::shared_ptr<State> self, std::string through,
                                wire::RelayTicket ticket);

  std::vector<RecordPtr> direct_peers();
  std::vector<std::string> own_addresses(const std::string& seen) const;
  bool cannot_be_tried(const std::string& seen) const;
  TimePoint check_at() const;
  TimePoint next_look() const;
  Ways ways() const;
  void tell_ways();
  void allow_relaying();
  bool has_relay() const noexcept { return relay && relay->is_open(); }
  bool lacks_relay() const noexcept { return verdict == Verdict::hidden && !has_relay(); }

  net::Transport& transport;
  net::Clock& clock;
  discovery::Directory& directory;
  DoorwayOptions options;
  Events events;
  Verdict verdict = Verdict::unknown;
  std::string address;            // that is announced while it is not hidden
  std::vector<std::string> own;   // numeric, what options.announced stands for
  std::uint16_t router_port = 0;  // 0: none
  ConnectionPtr relay;
  std::string relay_address;  // "HOST:PORT/p2p/ID", of the connection
  int arriving = 0;
  std::uint32_t bandwidth_kbps = 0;
  Ways told_ways;
  discovery::ReachDesk reach;
  discovery::RelayDesk relay_desk;
  net::Event again;
  TimePoint check_due{};         // at the latest
  TimePoint check_allowed{};     // at the earliest, when something has changed
  bool thin = true;              // too few could tell
  bool view_changed = false;     // since others were asked
  bool untried = false;          // the announced name leads where nobody is asked to dial
  bool told_nothing = false;     // that nobody could tell has been said
  bool told_unresolved = false;  // that the name is none has been said
  bool told_closed = false;      // that no relay has room has been said
  bool closed = false;
  std::mt19937 random;
};

// --- asking ----------------------------------------------------------------------------------

net::Task<void> Doorway::State::run(std::shared_ptr<State> self) {
  while (!self->closed) {
    self->again.reset();
    const TimePoint now = self->clock.now();
    if (now >= self->check_at()) {
      auto resolving = resolve_own(self);
      co_await std::move(resolving);
      if (self->closed) co_return;
      auto asking = ask_others(self);
      const Finding finding = co_await std::move(asking);
      if (self->closed) co_return;
      self->judge(finding);
      if (finding.told > 0 && self->bandwidth_kbps == 0) {
        auto measuring = measure(self);
        co_await std::move(measuring);
        if (self->closed) co_return;
      }
    }
    if (self->lacks_relay()) {
      auto searching = find_relay(self);
      co_await std::move(searching);
      if (self->closed) co_return;
    }
    const TimePoint due = self->next_look();
    const bool changed = co_await self->again.wait(due);
    if (changed) co_await self->clock.sleep_until(self->clock.now() + kSettle);
  }
}

/// Others dial numbers alone when they are asked. A name is looked up anew each time: it may be
/// another's by now, and that others then meet another key is found out here.
net::Task<void> Doorway::State::resolve_own(std::shared_ptr<State> self) {
  auto resolving = self->transport.resolve(self->options.announced,
                                           self->clock.now() + self->options.dial_timeout);
  const Result<std::vector<std::string>> found = co_await std::move(resolving);
  if (!found) {
    if (!std::exchange(self->told_unresolved, true)) {
      tell(LogLevel::warning, "the announced address: " + found.error().to_string());
    }
    self->own.clear();
    co_return;
  }
  self->told_unresolved = false;
  self->own = *found;
  if (self->own.size() > kMaxAnnounced) self->own.resize(kMaxAnnounced);
  self->options.hello.listen_address = self->own.front();
}

TimePoint Doorway::State::check_at() const {
  return thin && view_changed ? std::min(check_due, check_allowed) : check_due;
}

TimePoint Doorway::State::next_look() const {
  return lacks_relay() ? std::min(check_at(), clock.now() + kLookAgain) : check_at();
}

/// Who can be dialled, those of other networks first.
std::vector<RecordPtr> Doorway::State::direct_peers() {
  std::vector<RecordPtr> peers = directory.view();
  std::erase_if(peers, [](const RecordPtr& one) {
    return !one->record.relay.empty() || one->record.addresses.empty();
  });
  std::shuffle(peers.begin(), peers.end(), random);
  std::set<std::string> networks;
  std::stable_partition(peers.begin(), peers.end(), [&](const RecordPtr& one) {
    const std::string network = route::network_of(one->record.addresses.front());
    return network.empty() || networks.insert(network).second;
  });
  return peers;
}

net::Task<Doorway::State::Finding> Doorway::State::ask_others(std::shared_ptr<State> self) {
  Finding finding;
  std::string first;
  self->view_changed = false;
  const std::vector<RecordPtr> peers = self->direct_peers();
  for (const RecordPtr& peer : peers) {
    if (finding.asked == kMaxAsked || self->closed || !self->events.listens()) break;
    ++finding.asked;
    auto asking = ask_one(self, discovery::dial_address(peer->record), first);
    const std::optional<std::string> way = co_await std::move(asking);
    if (!way) continue;
    ++finding.told;
    first = *way;
    if (++finding.votes[*way] == kAgree) break;
  }
  // A door that was shut meanwhile, by a move to other layers, proves nothing.
  if (!self->closed && !self->events.listens()) co_return Finding();
  co_return finding;
}

/// At which address `whom` reached this node, "" if at none; nothing when it could not tell.
net::Task<std::optional<std::string>> Doorway::State::ask_one(std::shared_ptr<State> self,
                                                              std::string whom, std::string first) {
  auto connecting = self->connect(whom);
  const Result<ConnectionPtr> connection = co_await std::move(connecting);
  if (!connection) co_return std::nullopt;
  std::vector<std::string> tried;
  std::vector<std::string> left = self->own_addresses({});
  if (!first.empty()) left.insert(left.begin(), first);
  while (!left.empty() && !self->closed) {
    const std::string candidate = left.front();
    const TimePoint deadline = self->clock.now() + self->options.dial_timeout;
    auto asking =
        (*connection)->call(wire::Verb::reach, wire::encode(wire::Reach{candidate}), {}, deadline);
    const Result<wire::Frame> answer = co_await std::move(asking);
    const auto reply = answer ? wire::decode<wire::ReachReply>(answer->header)
                              : Result<wire::ReachReply>(answer.error());
    if (!reply) {
      if (tried.empty()) co_return std::nullopt;
      break;
    }
    if (reply->reached) co_return candidate;
    if (self->cannot_be_tried(reply->seen)) {
      self->untried = true;
      co_return std::nullopt;
    }
    tried.push_back(candidate);
    left = self->own_addresses(reply->seen);
    std::erase_if(left, [&](const std::string& one) {
      return std::find(tried.begin(), tried.end(), one) != tried.end();
    });
  }
  co_return std::string();
}

/// A name that leads nowhere from here, or to a private address that is not the one this node comes
/// from, such as a load balancer's: nobody dials that for a stranger, and its owner knows.
bool Doorway::State::cannot_be_tried(const std::string& seen) const {
  if (!discovery::numeric_host(options.announced).empty()) return false;
  return std::none_of(own.begin(), own.end(), [&](const std::string& one) {
    return discovery::may_reach(one, seen, options.hello.listen_address);
  });
}

/// Where it might be reached by one who sees it come from the host `seen`.
std::vector<std::string> Doorway::State::own_addresses(const std::string& seen) const {
  std::vector<std::string> all = own;
  if (all.empty()) all.push_back(options.announced);  // nobody dials that; they tell `seen`
  if (seen.empty()) return all;
  net::HostPort place;
  place.host = seen;
  for (const std::uint16_t port : {router_port, options.port}) {
    place.port = port;
    if (port != 0) all.push_back(plain(place));
  }
  return all;
}

void Doorway::State::judge(const Finding& finding) {
  thin = finding.told < kAgree && !std::exchange(untried, false);
  const TimePoint now = clock.now();
  check_allowed = now + (finding.asked > 0 ? Duration(kAskAgain) : Duration(kSettle));
  check_due = now + options.recheck;
  if (finding.told == 0) {
    if (finding.asked > 0 && !std::exchange(told_nothing, true)) {
      tell(LogLevel::info, "no peer could tell whether this node is reached");
    }
    return;
  }
  told_nothing = false;
  const std::string way = finding.best();
  const Verdict found = way.empty() ? Verdict::hidden : Verdict::direct;
  const int voices = finding.votes.at(way);
  if (found == Verdict::direct) {
    // A name that leads here is what others are told, whatever its number is today.
    const bool as_announced = std::find(own.begin(), own.end(), way) != own.end();
    const std::string announces = as_announced ? options.announced : way;
    if (verdict != found || address != announces) {
      tell(LogLevel::info,
           fmt::format("reached at {} by {} of {} peers", way, voices, finding.told));
    }
    address = announces;
    told_closed = false;
    if (const ConnectionPtr kept = std::exchange(relay, nullptr)) kept->close();
  } else if (verdict != found) {
    tell(LogLevel::warning,
         fmt::format("{} of {} peers cannot reach this node at {}: it needs a relay", voices,
                     finding.told, options.announced));
  }
  verdict = found;
  allow_relaying();
  tell_ways();
}

void Doorway::State::allow_relaying() {
  if (transport.relay() == nullptr) return;
  transport.relay()->allow(verdict == Verdict::hidden ? net::RelayLimits() : options.relaying);
}

net::Task<void> Doorway::State::measure(std::shared_ptr<State> self) {
  const std::vector<RecordPtr> peers = self->direct_peers();
  if (peers.empty()) co_return;
  auto connecting = self->connect(discovery::dial_address(peers.front()->record));
  const Result<ConnectionPtr> connection = co_await std::move(connecting);
  if (!connection || self->closed) co_return;
  auto measuring = measure_bandwidth(*connection, self->clock.now() + kMeasuring);
  self->bandwidth_kbps = co_await std::move(measuring);
  if (self->closed || self->bandwidth_kbps == 0) co_return;
  remember_bandwidth(self->options.bandwidth_file, self->bandwidth_kbps,
                     std::chrono::system_clock::now());
  tell(LogLevel::info, fmt::format("sends {:.1f} Mbit/s to a peer", self->bandwidth_kbps / 1e3));
}

// --- the relay -------------------------------------------------------------------------------

net::Task<Result<ConnectionPtr>> Doorway::State::connect(std::string whom) {
  const std::weak_ptr<State> weak = weak_from_this();
  net::Connection::Identity identity;
  identity.hello = [hello = options.hello] { return hello; };
  net::Connection::FrameHandler on_frame = [weak](const ConnectionPtr& from, wire::Frame frame) {
    if (const auto self = weak.lock()) self->received(from, frame);
  };
  net::Connection::CloseHandler on_close = [weak](const ConnectionPtr& from, const Error&) {
    if (const auto self = weak.lock()) self->lost(from);
  };
  return net::Connection::connect(transport, std::move(whom), std::move(identity),
                                  std::move(on_frame), std::move(on_close),
                                  clock.now() + options.dial_timeout);
}

/// Of some that relay, the nearest that has room.
net::Task<void> Doorway::State::find_relay(std::shared_ptr<State> self) {
  std::vector<ConnectionPtr> near;
  std::vector<RecordPtr> peers = self->direct_peers();
  std::erase_if(peers, [](const RecordPtr& one) { return !one->record.relays; });
  if (peers.size() > kMaxRelays) peers.resize(kMaxRelays);
  for (std::size_t i = 0; i < peers.size() && !self->closed; ++i) {
    auto connecting = self->connect(discovery::dial_address(peers[i]->record));
    const Result<ConnectionPtr> connection = co_await std::move(connecting);
    if (connection) near.push_back(*connection);
    if (near.size() < kCompared && i + 1 < peers.size()) continue;
    std::sort(near.begin(), near.end(), [](const ConnectionPtr& a, const ConnectionPtr& b) {
      return a->round_trip() < b->round_trip();
    });
    for (const ConnectionPtr& one : std::exchange(near, {})) {
      auto asking = be_kept(self, one);
      const bool kept = co_await std::move(asking);
      if (kept) co_return;
    }
  }
  if (self->closed) co_return;
  if (!std::exchange(self->told_closed, true)) {
    tell(LogLevel::warning,
         fmt::format("none of {} relays has room: this node serves nobody for now", peers.size()));
  }
  self->tell_ways();
}

net::Task<bool> Doorway::State::be_kept(std::shared_ptr<State> self, ConnectionPtr connection) {
  auto asking = connection->call(wire::Verb::relay, wire::encode(wire::Relay{}), {},
                                 self->clock.now() + self->options.dial_timeout);
  const Result<wire::Frame> answer = co_await std::move(asking);
  if (!answer || self->closed || !connection->is_open()) co_return false;
  self->relay = connection;
  self->relay_address = connection->address();
  self->told_closed = false;
  const double ms = std::chrono::duration<double, std::milli>(connection->round_trip()).count();
  tell(LogLevel::info,
       fmt::format("serving through relay {}, {:.1f} ms away", self->relay_address, ms));
  self->tell_ways();
  co_return true;
}

void Doorway::State::received(const ConnectionPtr& from, const wire::Frame& frame) {
  if (closed) return;
  if (frame.verb != wire::Verb::relay || frame.reply) {
    return from->fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " from a relay"});
  }
  const Result<wire::Relay> message = wire::decode<wire::Relay>(frame.header);
  if (!message) return from->fail(message.error());
  if (arriving >= kMaxArriving) return;  // the dialler hears nothing, and tries again or elsewhere
  ++arriving;
  net::spawn(clock.executor(), "let in",
             let_in(shared_from_this(), from->address(), message->ticket));
}

net::Task<void> Doorway::State::let_in(std::shared_ptr<State> self, std::string through,
                                       wire::RelayTicket ticket) {
  const TimePoint deadline = self->clock.now() + self->options.dial_timeout;
  auto meeting = self->transport.accept_through(through, ticket, deadline);
  const Result<std::shared_ptr<net::Link>> link = co_await std::move(meeting);
  --self->arriving;
  if (self->closed) co_return;
  if (link) {
    self->events.on_link(*link);
  } else {
    tell(LogLevel::debug, "nobody came through the relay: " + link.error().to_string());
  }
}

void Doorway::State::lost(const ConnectionPtr& connection) {
  if (closed || connection != relay) return;
  relay = nullptr;
  tell(LogLevel::warning, "lost relay " + relay_address);
  again.set();
}

// --- the record ------------------------------------------------------------------------------

Doorway::Ways Doorway::State::ways() const {
  if (verdict != Verdict::hidden) return {{address}, {}};
  return {{}, has_relay() ? relay_address : std::string()};
}

void Doorway::State::tell_ways() {
  Ways now = ways();
  if (now == told_ways) return;
  told_ways = std::move(now);
  events.on_ways();
}

Doorway::Doorway(net::Transport& transport, discovery::Directory& directory, DoorwayOptions options,
                 Events events)
    : state_(std::make_shared<State>(transport, directory, std::move(options), std::move(events))) {
  state_->told_ways = state_->ways();
  state_->allow_relaying();
}

Doorway::~Doorway() {
  state_->closed = true;
  state_->again.set();
  if (const ConnectionPtr relay = std::exchange(state_->relay, nullptr)) relay->close();
  if (state_->transport.relay() != nullptr) state_->transport.relay()->allow({});
}

void Doorway::start() { net::spawn(state_->clock.executor(), "doorway", State::run(state_)); }

void Doorway::look_again() {
  state_->view_changed = true;
  if (state_->thin || state_->lacks_relay()) state_->again.set();
}

void Doorway::mapped(const discovery::PortMapped& answer) {
  if (answer.external == 0) {
    return tell(LogLevel::info, fmt::format("the router opens no port: {}", answer.how));
  }
  tell(LogLevel::info, fmt::format("the router sends its port {} to port {} here, by {}",
                                   answer.external, answer.port, answer.how));
  if (std::exchange(state_->router_port, answer.external) == answer.external) return;
  if (state_->verdict == State::Verdict::direct) return;
  state_->check_due = {};  // it may be a way in
  state_->again.set();
}

void Doorway::answer(const std::shared_ptr<net::Connection>& connection,
                     const wire::Frame& request) {
  if (request.verb == wire::Verb::reach) return state_->reach.answer(connection, request);
  state_->relay_desk.answer(connection, request);
}

Doorway::Ways Doorway::ways() const { return state_->ways(); }

std::uint32_t Doorway::bandwidth_kbps() const noexcept { return state_->bandwidth_kbps; }

bool Doorway::relays() const noexcept {
  return state_->verdict != State::Verdict::hidden && state_->options.relaying.sessions > 0;
}

}  // namespace farmesh::node
