#include "net/rough_road.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "net/event.hpp"
#include "net/task.hpp"
#include "net/tcp_address.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;

constexpr std::size_t kPieceBytes = 16u << 10;
constexpr std::size_t kMaxHeldBytes = 8u << 20;  // of one direction; then the sender waits
constexpr Duration kLeastTimeout = std::chrono::milliseconds(200);  // of TCP, before it sends again

Result<tcp::endpoint> endpoint_of(const std::string& address) {
  const Result<HostPort> place = parse_address(address);
  if (!place) return place.error();
  std::error_code error;
  const auto host = asio::ip::make_address(place->host, error);
  if (error || place->udp || !place->relay.empty()) {
    return {Errc::address_invalid, address + " is no numeric HOST:PORT"};
  }
  return tcp::endpoint(host, place->port);
}

/// What has been read and waits for its time.
struct Piece {
  TimePoint due;
  std::vector<std::byte> bytes;  // empty: the end
};

/// One of the two directions of a connection.
struct Direction {
  Direction(tcp::socket& from, tcp::socket& to, Clock& clock) : in(from), out(to), moved(clock) {}

  tcp::socket& in;
  tcp::socket& out;
  std::deque<Piece> held;
  std::size_t held_bytes = 0;
  TimePoint road_free{};  // when all that was read has left at the rate
  TimePoint last_due{};   // order is kept
  Event moved;            // something was read, or has gone
};

}  // namespace

struct RoughRoad::State : std::enable_shared_from_this<State> {
  struct Pair {
    Pair(tcp::socket socket, Clock& clock)
        : near(std::move(socket)),
          far(clock.executor()),
          forth(near, far, clock),
          back(far, near, clock) {}
    void close() {
      std::error_code ignored;
      near.close(ignored);
      far.close(ignored);
      closed = true;
      forth.moved.set();
      back.moved.set();
    }
    tcp::socket near;
    tcp::socket far;
    Direction forth;
    Direction back;
    bool closed = false;
    int ended = 0;  // directions
  };
  using PairPtr = std::shared_ptr<Pair>;

  State(Clock& c, const RoughRoadOptions& o)
      : clock(c), options(o), acceptor(c.executor()), random(o.seed), opened(c) {
    opened.set();
  }

  void accept();
  static Task<void> connect(std::shared_ptr<State> self, PairPtr pair);
  static Task<void> read(std::shared_ptr<State> self, PairPtr pair, Direction& way);
  static Task<void> write(std::shared_ptr<State> self, PairPtr pair, Direction& way);
  TimePoint due(Direction& way, std::size_t bytes);
  Duration resends();
  void cut(bool on) { on ? opened.reset() : opened.set(); }
  void end(const PairPtr& pair) {
    pair->close();
    pairs.erase(pair);
  }

  Clock& clock;
  const RoughRoadOptions options;
  tcp::acceptor acceptor;
  tcp::endpoint target;
  std::mt19937_64 random;
  Event opened;  // not while it is cut
  std::string address;
  std::set<PairPtr> pairs;
  RoughRoadStats stats;
};

void RoughRoad::State::accept() {
  acceptor.async_accept([self = shared_from_this()](std::error_code error, tcp::socket socket) {
    if (error) return;  // closed
    ++self->stats.connections;
    const auto pair = std::make_shared<Pair>(std::move(socket), self->clock);
    self->pairs.insert(pair);
    spawn(self->clock.executor(), "rough road", connect(self, pair));
    self->accept();
  });
}

Task<void> RoughRoad::State::connect(std::shared_ptr<State> self, PairPtr pair) {
  std::error_code error;
  auto connecting =
      pair->far.async_connect(self->target, asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(connecting);
  if (error || pair->closed) co_return self->end(pair);
  std::error_code ignored;
  pair->near.set_option(tcp::no_delay(true), ignored);
  pair->far.set_option(tcp::no_delay(true), ignored);
  for (Direction* way : {&pair->forth, &pair->back}) {
    spawn(self->clock.executor(), "rough road in", read(self, pair, *way));
    spawn(self->clock.executor(), "rough road out", write(self, pair, *way));
  }
}

/// How much later than its first try a piece comes: TCP's timeouts, doubling.
Duration RoughRoad::State::resends() {
  Duration late{};
  Duration timeout = std::max<Duration>(kLeastTimeout, options.conditions.latency * 3);
  std::bernoulli_distribution lost(std::clamp(options.conditions.loss, 0.0, 1.0));
  for (int tries = 0; tries < 8 && lost(random); ++tries) {
    late += timeout;
    timeout *= 2;
  }
  if (late > Duration{}) ++stats.resent;
  return late;
}

TimePoint RoughRoad::State::due(Direction& way, std::size_t bytes) {
  const SimConditions& road = options.conditions;
  way.road_free = std::max(way.road_free, clock.now());
  if (road.bytes_per_second > 0) {
    way.road_free += std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(static_cast<double>(bytes) / road.bytes_per_second));
  }
  std::uniform_int_distribution<Duration::rep> jitter(0, road.jitter.count());
  way.last_due =
      std::max(way.last_due, way.road_free + road.latency + Duration(jitter(random)) + resends());
  return way.last_due;
}

Task<void> RoughRoad::State::read(std::shared_ptr<State> self, PairPtr pair, Direction& way) {
  std::error_code error;
  while (!error && !pair->closed) {
    std::vector<std::byte> bytes(kPieceBytes);
    auto reading = way.in.async_read_some(asio::buffer(bytes),
                                          asio::redirect_error(asio::use_awaitable, error));
    const std::size_t count = co_await std::move(reading);
    if (error && error != asio::error::eof) co_return self->end(pair);
    bytes.resize(count);
    way.held.push_back({self->due(way, count), std::move(bytes)});
    way.held_bytes += count;
    way.moved.set();
    while (way.held_bytes > kMaxHeldBytes && !pair->closed) {
      way.moved.reset();
      co_await way.moved.wait(TimePoint::max());
    }
  }
}

Task<void> RoughRoad::State::write(std::shared_ptr<State> self, PairPtr pair, Direction& way) {
  std::error_code error;
  while (!pair->closed) {
    if (way.held.empty()) {
      way.moved.reset();
      co_await way.moved.wait(TimePoint::max());
      continue;
    }
    co_await self->clock.sleep_until(way.held.front().due);
    if (!self->opened.is_set()) co_await self->opened.wait(TimePoint::max());
    if (pair->closed) co_return;
    const Piece piece = std::move(way.held.front());
    way.held.pop_front();
    way.held_bytes -= piece.bytes.size();
    way.moved.set();
    if (piece.bytes.empty()) {
      way.out.shutdown(tcp::socket::shutdown_send, error);
      if (++pair->ended == 2) self->end(pair);
      co_return;
    }
    auto writing = asio::async_write(way.out, asio::buffer(piece.bytes),
                                     asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(writing);
    if (error) co_return self->end(pair);
    self->stats.bytes += piece.bytes.size();
  }
}

RoughRoad::RoughRoad(std::shared_ptr<State> state) : state_(std::move(state)) {}

RoughRoad::~RoughRoad() {
  std::error_code ignored;
  state_->acceptor.close(ignored);
  for (const auto& pair : std::exchange(state_->pairs, {})) pair->close();
  state_->opened.set();
}

Result<std::unique_ptr<RoughRoad>> RoughRoad::open(Clock& clock, const RoughRoadOptions& options) {
  const Result<tcp::endpoint> at = endpoint_of(options.listen);
  if (!at) return at.error();
  const Result<tcp::endpoint> to = endpoint_of(options.to);
  if (!to) return to.error();
  auto state = std::make_shared<State>(clock, options);
  state->target = *to;
  std::error_code error;
  state->acceptor.open(at->protocol(), error);
  if (!error) state->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) state->acceptor.bind(*at, error);
  if (!error) state->acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return {Errc::io_error, "cannot listen at " + options.listen + ": " + error.message()};
  state->address = format_endpoint(state->acceptor.local_endpoint(error));
  state->accept();
  const std::weak_ptr<State> weak = state;
  const auto cut_at = [&](Duration when, bool on) {
    clock.call_at(clock.now() + when, [weak, on] {
      if (const auto self = weak.lock()) self->cut(on);
    });
  };
  if (options.cut_after > Duration{}) cut_at(options.cut_after, true);
  if (options.cut_after > Duration{} && options.cut_for > Duration{}) {
    cut_at(options.cut_after + options.cut_for, false);
  }
  return std::unique_ptr<RoughRoad>(new RoughRoad(std::move(state)));
}

const std::string& RoughRoad::address() const noexcept { return state_->address; }
void RoughRoad::cut(bool on) { state_->cut(on); }
RoughRoadStats RoughRoad::stats() const noexcept { return state_->stats; }

}  // namespace farmesh::net
