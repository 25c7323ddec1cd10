#include "net/relay_switch.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "net/task.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;

constexpr std::size_t kCopyBytes = 16u << 10;
constexpr std::chrono::milliseconds kBurst{250};  // of the rate, after a while of less
constexpr std::chrono::hours kDay{24};

/// One end of a pair that has connected.
struct End {
  tcp::socket socket;
  AcceptGate::Ticket place;  // among the listener's links
};

wire::RelayTicket fresh_ticket() {
  wire::RelayTicket ticket;
  random_bytes(ticket);
  return ticket;
}

}  // namespace

struct RelaySwitch::State : std::enable_shared_from_this<State> {
  /// Two nodes that are being brought together, or are.
  struct Pair : std::enable_shared_from_this<Pair> {
    std::array<NodeId, 2> nodes;
    std::array<wire::RelayTicket, 2> tickets;
    std::array<std::optional<End>, 2> ends;
    TimerId lapse = 0;
    TimePoint moved_at{};  // when bytes last came from either
    int flowing = 0;       // directions that go on

    bool complete() const noexcept { return ends[0] && ends[1]; }
    void close() {
      std::error_code ignored;
      for (auto& end : ends) {
        if (end) end->socket.close(ignored);
      }
    }
  };
  using PairPtr = std::shared_ptr<Pair>;

  explicit State(Clock& c) : clock(c) {}

  Result<void> has_room(const NodeId& dialler, const NodeId& hidden);
  void hold(const PairPtr& pair);
  void let_go(const PairPtr& pair);
  void lapsed(const PairPtr& pair);
  void splice(const PairPtr& pair);
  void watch(const PairPtr& pair);
  static Task<void> copy(std::shared_ptr<State> self, PairPtr pair, int from);
  Task<bool> may_pass(std::size_t bytes);
  bool day_is_spent();
  void end();

  Clock& clock;
  RelayLimits limits;
  RelayStats stats;
  std::set<PairPtr> pairs;
  std::map<NodeId, std::uint32_t> held;                                      // places, by node
  std::map<wire::RelayTicket, std::pair<std::weak_ptr<Pair>, int>> tickets;  // and their end
  TimePoint due{};  // when all that was taken will have passed at the rate
  TimePoint day_began{};
  std::uint64_t day_bytes = 0;
};

// --- places ----------------------------------------------------------------------------------

bool RelaySwitch::State::day_is_spent() {
  if (day_began == TimePoint{} || clock.now() - day_began >= kDay) {
    day_began = clock.now();
    day_bytes = 0;
  }
  return day_bytes >= limits.bytes_per_day;
}

Result<void> RelaySwitch::State::has_room(const NodeId& dialler, const NodeId& hidden) {
  if (limits.sessions == 0) return {Errc::unsupported, "this node is no relay"};
  if (pairs.size() >= limits.sessions) return {Errc::quota, "as many sessions as it relays"};
  for (const NodeId& node : {dialler, hidden}) {
    const auto count = held.find(node);
    if (count != held.end() && count->second >= limits.sessions_per_node) {
      return {Errc::quota, "as many sessions as it relays for one node"};
    }
  }
  if (day_is_spent()) return {Errc::quota, "as many bytes as it relays in a day"};
  return {};
}

void RelaySwitch::State::hold(const PairPtr& pair) {
  pairs.insert(pair);
  for (const NodeId& node : pair->nodes) ++held[node];
  for (int end = 0; end < 2; ++end) tickets[pair->tickets[end]] = {pair, end};
  pair->lapse = clock.call_at(clock.now() + limits.ticket_life,
                              [weak = weak_from_this(), waiting = std::weak_ptr<Pair>(pair)] {
                                const auto self = weak.lock();
                                const auto late = waiting.lock();
                                if (self && late) self->lapsed(late);
                              });
}

void RelaySwitch::State::let_go(const PairPtr& pair) {
  if (pairs.erase(pair) == 0) return;
  pair->close();
  for (const wire::RelayTicket& ticket : pair->tickets) tickets.erase(ticket);
  for (const NodeId& node : pair->nodes) {
    const auto count = held.find(node);
    if (--count->second == 0) held.erase(count);
  }
}

void RelaySwitch::State::lapsed(const PairPtr& pair) {
  if (pair->complete()) return;
  ++stats.lapsed;
  let_go(pair);
}

void RelaySwitch::State::end() {
  while (!pairs.empty()) let_go(PairPtr(*pairs.begin()));
}

// --- bytes -----------------------------------------------------------------------------------

void RelaySwitch::State::splice(const PairPtr& pair) {
  clock.cancel(pair->lapse);
  ++stats.spliced;
  pair->moved_at = clock.now();
  pair->flowing = 2;
  std::error_code ignored;
  for (auto& end : pair->ends) end->socket.set_option(tcp::no_delay(true), ignored);
  watch(pair);
  for (int from = 0; from < 2; ++from) {
    spawn(clock.executor(), "relay", copy(shared_from_this(), pair, from));
  }
}

/// Ends a pair that has been silent: its ends ping each other when they live.
void RelaySwitch::State::watch(const PairPtr& pair) {
  clock.call_at(pair->moved_at + limits.idle,
                [weak = weak_from_this(), watched = std::weak_ptr<Pair>(pair)] {
                  const auto self = weak.lock();
                  const auto idle = watched.lock();
                  if (!self || !idle || !self->pairs.contains(idle)) return;
                  if (self->clock.now() >= idle->moved_at + self->limits.idle) {
                    return self->let_go(idle);
                  }
                  self->watch(idle);
                });
}

/// Waits until the rate has room for what was read; false when the day's bytes are spent.
Task<bool> RelaySwitch::State::may_pass(std::size_t bytes) {
  if (day_is_spent()) co_return false;
  day_bytes += bytes;
  stats.bytes += bytes;
  const auto cost = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
      static_cast<double>(bytes) / std::max(limits.bytes_per_second, 1.0)));
  due = std::max(due, clock.now() - Duration(kBurst)) + cost;
  if (due > clock.now()) co_await clock.sleep_until(due);
  co_return true;
}

/// One direction. Its end is told on; the pair ends with the second, or with an error.
Task<void> RelaySwitch::State::copy(std::shared_ptr<State> self, PairPtr pair, int from) {
  tcp::socket& in = pair->ends[from]->socket;
  tcp::socket& out = pair->ends[1 - from]->socket;
  std::vector<std::byte> bytes(kCopyBytes);
  std::error_code error;
  while (!error) {
    auto reading =
        in.async_read_some(asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    const std::size_t count = co_await std::move(reading);
    if (error) break;
    pair->moved_at = self->clock.now();
    auto waiting = self->may_pass(count);
    const bool passes = co_await std::move(waiting);
    if (!passes) {
      log(LogLevel::warning, "relay", "the day's bytes are spent: a session ends");
      break;
    }
    auto writing = asio::async_write(out, asio::buffer(bytes.data(), count),
                                     asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(writing);
  }
  const bool ended_well = error == asio::error::eof;
  if (ended_well) out.shutdown(tcp::socket::shutdown_send, error);
  if (--pair->flowing == 0 || !ended_well) self->let_go(pair);
}

// --- the class -------------------------------------------------------------------------------

RelaySwitch::RelaySwitch(Clock& clock) : state_(std::make_shared<State>(clock)) {}
RelaySwitch::~RelaySwitch() { end(); }

void RelaySwitch::allow(const RelayLimits& limits) {
  state_->limits = limits;
  if (limits.sessions == 0) end();
}

const RelayLimits& RelaySwitch::limits() const noexcept { return state_->limits; }

Result<Relay::Tickets> RelaySwitch::reserve(const NodeId& dialler, const NodeId& hidden) {
  if (const Result<void> room = state_->has_room(dialler, hidden); !room) return room.error();
  auto pair = std::make_shared<State::Pair>();
  pair->nodes = {dialler, hidden};
  pair->tickets = {fresh_ticket(), fresh_ticket()};
  state_->hold(pair);
  return Tickets{pair->tickets[0], pair->tickets[1]};
}

void RelaySwitch::arrived(const wire::RelayTicket& ticket, tcp::socket socket,
                          AcceptGate::Ticket place) {
  const auto known = state_->tickets.extract(ticket);
  const auto pair = known.empty() ? nullptr : known.mapped().first.lock();
  if (!pair) {
    ++state_->stats.unknown;
    return;  // the socket closes
  }
  pair->ends[known.mapped().second].emplace(End{std::move(socket), std::move(place)});
  if (pair->complete()) state_->splice(pair);
}

RelayStats RelaySwitch::stats() const noexcept {
  RelayStats stats = state_->stats;
  stats.pairs = static_cast<std::uint32_t>(state_->pairs.size());
  return stats;
}

void RelaySwitch::end() { state_->end(); }

}  // namespace farmesh::net
