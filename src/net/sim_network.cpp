#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "net/link_events.hpp"
#include "net/sim_transport.hpp"
#include "net/tcp_address.hpp"

namespace farmesh::net {
namespace {

using HostPair = std::pair<std::string, std::string>;

HostPair pair_of(const std::string& a, const std::string& b) {
  return a < b ? HostPair{a, b} : HostPair{b, a};
}

// What travels: a frame, or the news that the other end has closed.
using Parcel = std::variant<wire::Frame, Error>;

// One end of a simulated connection: what it has received, and when what it sends is through.
struct End {
  End(std::string h, std::string remote_h, std::string remote, Executor executor)
      : host(std::move(h)),
        remote_host(std::move(remote_h)),
        remote_address(std::move(remote)),
        events(std::make_shared<LinkEvents>(std::move(executor))) {}

  std::string host;
  std::string remote_host;
  std::string remote_address;
  LinkIdentity identity;
  std::shared_ptr<LinkEvents> events;
  std::weak_ptr<End> other;
  std::deque<Parcel> inbox;              // arrived, not yet delivered
  TimePoint wire_free{};                 // when the last frame sent has left
  TimePoint last_arrival{};              // of what was sent: later frames arrive no earlier
  std::size_t travelling_bytes = 0;      // sent and not yet arrived
  std::optional<TimePoint> killed_at{};  // frames that had not left by then are lost
  bool pumping = false;
};

}  // namespace

struct SimWorld : std::enable_shared_from_this<SimWorld> {
  SimWorld(Clock& c, SimConditions con, std::uint64_t seed)
      : clock(c), conditions(con), random(seed) {}

  Duration latency(const std::string& from, const std::string& to) const {
    const auto found = latencies.find(pair_of(from, to));
    return found == latencies.end() ? conditions.latency : found->second;
  }

  Duration jitter() {
    const auto range = static_cast<std::uint64_t>(conditions.jitter.count());
    return Duration(range == 0 ? 0 : static_cast<Duration::rep>(random() % (range + 1)));
  }

  /// How much later than its first try a frame gets through: the timeouts of TCP, doubling.
  Duration resends(Duration way) {
    constexpr Duration kLeastTimeout = std::chrono::milliseconds(200);
    if (conditions.loss <= 0) return {};
    Duration late{};
    Duration timeout = std::max<Duration>(kLeastTimeout, way * 3);
    const auto lost = [this] {
      return static_cast<double>(random() >> 11) * 0x1p-53 < conditions.loss;
    };
    for (int tries = 0; tries < 8 && lost(); ++tries) {
      late += timeout;
      timeout *= 2;
    }
    return late;
  }

  bool parted(const std::string& a, const std::string& b) const {
    return partitions.contains(pair_of(a, b));
  }

  bool alive(const std::string& host) const { return !dead.contains(host); }

  NodeId id_of(const std::string& host) const {
    const auto known = ids.find(host);
    return known == ids.end() ? NodeId{} : known->second;
  }

  std::pair<std::shared_ptr<End>, std::shared_ptr<End>> join(const std::string& dialler,
                                                             const std::string& address,
                                                             const std::string& acceptor);
  Result<void> send(const std::shared_ptr<End>& from, wire::Frame frame, const LinkLimits& limits);
  void travel(const std::shared_ptr<End>& from, Parcel parcel, std::size_t bytes);
  void announce_end(const std::shared_ptr<End>& from);
  void pump(const std::shared_ptr<End>& end);
  void deliver_one(const std::shared_ptr<End>& end);
  template <class Fn>
  void each_end(const Fn& fn);

  Clock& clock;
  SimConditions conditions;
  std::mt19937_64 random;
  LinkLimits limits;
  bool down = false;  // the network object has gone; links that outlive it do nothing
  std::map<HostPair, Duration> latencies;
  std::set<HostPair> partitions;
  std::set<std::string> dead;
  std::map<std::string, std::unique_ptr<SkewedClock>> clocks;  // of hosts that have their own
  std::map<std::string, NodeId> ids;                           // of the hosts that have one
  std::map<std::string, std::function<void(std::shared_ptr<Link>)>> listeners;
  std::vector<std::weak_ptr<End>> ends;  // in the order they were made
  std::function<void(const std::string&, const std::string&, const wire::Frame&)> observer;
  std::uint32_t next_port = 49'152;
  std::uint64_t delivered_frames = 0;
  std::uint64_t delivered_bytes = 0;
};

std::pair<std::shared_ptr<End>, std::shared_ptr<End>> SimWorld::join(const std::string& dialler,
                                                                     const std::string& address,
                                                                     const std::string& acceptor) {
  const std::string port = std::to_string(next_port++);
  auto near = std::make_shared<End>(dialler, acceptor, address, clock.executor());
  auto far = std::make_shared<End>(acceptor, dialler, dialler + ":" + port, clock.executor());
  near->other = far;
  far->other = near;
  near->identity = {id_of(dialler), id_of(acceptor)};
  far->identity = {near->identity.remote, near->identity.local};
  std::erase_if(ends, [](const std::weak_ptr<End>& end) { return end.expired(); });
  ends.push_back(near);
  ends.push_back(far);
  return {std::move(near), std::move(far)};
}

Result<void> SimWorld::send(const std::shared_ptr<End>& from, wire::Frame frame,
                            const LinkLimits& limits) {
  if (down) return {Errc::closed, "the simulated network has ended"};
  Result<void> sendable = check_sendable(frame, *from->events, from->travelling_bytes, limits);
  if (!sendable) return sendable;
  if (observer) {
    const auto observe = observer;  // may replace itself, or kill either host
    observe(from->host, from->remote_host, frame);
    if (from->events->ended()) return from->events->reason();
  }
  const std::size_t bytes = frame.wire_bytes();
  from->wire_free = std::max(from->wire_free, clock.now());
  if (conditions.bytes_per_second > 0) {
    const std::chrono::duration<double> time(static_cast<double>(bytes) /
                                             conditions.bytes_per_second);
    from->wire_free += std::chrono::duration_cast<Duration>(time);
  }
  travel(from, std::move(frame), bytes);
  return {};
}

// Carries `parcel` to the other end, after everything sent before it.
void SimWorld::travel(const std::shared_ptr<End>& from, Parcel parcel, std::size_t bytes) {
  const TimePoint departure = std::max(from->wire_free, clock.now());
  const Duration way = latency(from->host, from->remote_host) + jitter();
  const TimePoint arrival = std::max(departure + way + resends(way), from->last_arrival);
  from->last_arrival = arrival;
  from->travelling_bytes += bytes;
  // Shared, because a std::function must be copyable and a parcel is moved out of it once.
  auto shared = std::make_shared<Parcel>(std::move(parcel));
  clock.call_at(arrival, [weak = weak_from_this(), from, departure, shared, bytes] {
    from->travelling_bytes -= bytes;
    const auto self = weak.lock();
    const std::shared_ptr<End> to = from->other.lock();
    if (!self || !to || to->events->ended()) return;
    if (from->killed_at && departure > *from->killed_at) return;
    to->inbox.push_back(std::move(*shared));
    self->pump(to);
  });
}

// Tells the other end, after what has left already, that `from` has ended.
void SimWorld::announce_end(const std::shared_ptr<End>& from) {
  if (down) return;
  if (from->killed_at && from->wire_free > clock.now()) {
    from->wire_free = clock.now();  // the rest of the queue died with the host
    from->last_arrival = clock.now();
  }
  travel(from, Error{Errc::connection_lost, "the remote end closed"}, 0);
}

void SimWorld::pump(const std::shared_ptr<End>& end) {
  if (end->pumping || end->inbox.empty() || !end->events->started()) return;
  if (parted(end->host, end->remote_host)) return;  // partition() pumps when it heals
  end->pumping = true;
  asio::post(clock.executor(), [weak = weak_from_this(), end] {
    end->pumping = false;
    const auto self = weak.lock();
    if (!self || self->parted(end->host, end->remote_host)) return;
    self->deliver_one(end);
    self->pump(end);
  });
}

void SimWorld::deliver_one(const std::shared_ptr<End>& end) {
  if (end->inbox.empty()) return;
  Parcel parcel = std::move(end->inbox.front());
  end->inbox.pop_front();
  if (auto* reason = std::get_if<Error>(&parcel)) {
    end->inbox.clear();
    end->events->end(std::move(*reason));
    return;
  }
  auto& frame = std::get<wire::Frame>(parcel);
  ++delivered_frames;
  delivered_bytes += frame.wire_bytes();
  end->events->deliver(std::move(frame));
}

template <class Fn>
void SimWorld::each_end(const Fn& fn) {
  for (const std::weak_ptr<End>& weak : std::vector(ends)) {
    if (const std::shared_ptr<End> end = weak.lock()) fn(end);
  }
}

namespace {

class SimLink final : public Link {
 public:
  SimLink(std::shared_ptr<SimWorld> net, std::shared_ptr<End> end)
      : net_(std::move(net)), end_(std::move(end)), limits_(net_->limits) {}

  ~SimLink() override {
    const bool was_open = is_open();
    end_->events->drop();
    end_->inbox.clear();
    if (was_open) net_->announce_end(end_);
  }

  void start(std::function<void(wire::Frame)> on_frame,
             std::function<void(Error)> on_close) override {
    end_->events->start(std::move(on_frame), std::move(on_close));
    net_->pump(end_);
  }

  Result<void> send(wire::Frame frame) override {
    return net_->send(end_, std::move(frame), limits_);
  }

  void close(Error reason) override {
    if (!is_open()) return;
    end_->events->end(std::move(reason));
    end_->inbox.clear();
    net_->announce_end(end_);
  }

  std::size_t queued_bytes() const noexcept override { return end_->travelling_bytes; }
  bool is_open() const noexcept override { return !end_->events->ended(); }
  const std::string& remote_address() const noexcept override { return end_->remote_address; }
  std::string remote_endpoint() const override { return end_->remote_address; }
  const LinkIdentity& identity() const noexcept override { return end_->identity; }

 private:
  std::shared_ptr<SimWorld> net_;
  std::shared_ptr<End> end_;
  LinkLimits limits_;
};

class SimListener final : public Listener {
 public:
  SimListener(std::shared_ptr<SimWorld> net, std::string address)
      : net_(std::move(net)), address_(std::move(address)) {}
  ~SimListener() override { net_->listeners.erase(address_); }
  const std::string& address() const noexcept override { return address_; }

 private:
  std::shared_ptr<SimWorld> net_;
  std::string address_;
};

class SimTransport final : public Transport {
 public:
  SimTransport(std::shared_ptr<SimWorld> net, std::string host)
      : net_(std::move(net)), host_(std::move(host)) {}

  Clock& clock() noexcept override {
    const auto own = net_->clocks.find(host_);
    return own == net_->clocks.end() ? net_->clock : *own->second;
  }

  Task<Result<std::shared_ptr<Link>>> dial(std::string address, TimePoint deadline) override {
    const auto own = net_->clocks.find(host_);
    if (own != net_->clocks.end()) deadline = own->second->base_time(deadline);
    return dial_from(net_, host_, std::move(address), deadline);
  }

  Result<std::unique_ptr<Listener>> listen(
      const std::string& address, std::function<void(std::shared_ptr<Link>)> on_link) override {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos || address.substr(0, colon) != host_) {
      return {Errc::address_invalid, address + " is not an address of host " + host_};
    }
    const bool any_port = address.substr(colon + 1) == "0";
    std::string bound = any_port ? host_ + ":" + std::to_string(net_->next_port++) : address;
    if (!net_->alive(host_)) return {Errc::io_error, host_ + " is down"};
    if (!net_->listeners.emplace(bound, std::move(on_link)).second) {
      return {Errc::io_error, bound + " is in use"};
    }
    return std::unique_ptr<Listener>(std::make_unique<SimListener>(net_, std::move(bound)));
  }

 private:
  // One trip for the request, one for the answer, as a TCP handshake takes.
  static Task<Result<std::shared_ptr<Link>>> dial_from(std::shared_ptr<SimWorld> net,
                                                       std::string host, std::string address,
                                                       TimePoint deadline) {
    const Result<HostPort> place = parse_address(address);
    if (place && !place->relay.empty()) {
      co_return Error{Errc::address_invalid, "there are no relays in a simulated network"};
    }
    if (!place) co_return place.error();
    const std::string remote = place->host;
    const std::string listens_at = remote + ":" + std::to_string(place->port);
    if (!net->alive(host)) co_return Error{Errc::io_error, host + " is down"};
    Clock& clock = net->clock;
    while (net->parted(host, remote)) {  // asked again each second, as a lost SYN is
      const TimePoint again = clock.now() + std::chrono::seconds(1);
      co_await clock.sleep_until(std::min(again, deadline));
      if (clock.now() >= deadline) co_return Error{Errc::timeout, address + " did not answer"};
    }
    const Duration way = net->latency(host, remote);
    co_await clock.sleep_until(std::min(clock.now() + way, deadline));
    const auto listener = net->listeners.find(listens_at);
    const bool accepted = net->alive(remote) && listener != net->listeners.end();
    std::shared_ptr<Link> link;
    std::shared_ptr<End> end;
    if (accepted && net->alive(host) && clock.now() < deadline) {
      const auto on_link = listener->second;
      auto [near, far] = net->join(host, address, remote);
      end = near;
      link = std::make_shared<SimLink>(net, near);
      on_link(std::make_shared<SimLink>(net, far));
    }
    const TimePoint answered = clock.now() + way;
    co_await clock.sleep_until(std::min(answered, deadline));
    if (!net->alive(host) || (end && end->events->ended())) {
      co_return Error{Errc::connection_lost, host + " went down while dialling"};
    }
    if (answered > deadline) co_return Error{Errc::timeout, address + " did not answer"};
    if (link && place->id && *place->id != link->identity().remote) {
      co_return Error{Errc::identity_mismatch, address + " is answered by another node"};
    }
    if (link) co_return link;
    co_return Error{Errc::connection_refused, "nobody listens at " + address};
  }

  std::shared_ptr<SimWorld> net_;
  std::string host_;
};

}  // namespace

SimNetwork::SimNetwork(Clock& clock, SimConditions conditions, std::uint64_t seed)
    : world_(std::make_shared<SimWorld>(clock, conditions, seed)) {}

SimNetwork::~SimNetwork() { world_->down = true; }

std::unique_ptr<Transport> SimNetwork::host(const std::string& host, const NodeId& id) {
  world_->ids[host] = id;
  return std::make_unique<SimTransport>(world_, host);
}

void SimNetwork::kill(const std::string& host) {
  world_->dead.insert(host);
  world_->each_end([&](const std::shared_ptr<End>& end) {
    if (end->host != host || end->events->ended()) return;
    end->killed_at = world_->clock.now();
    end->inbox.clear();
    end->events->end({Errc::connection_lost, host + " was killed"});
    world_->announce_end(end);
  });
}

void SimNetwork::revive(const std::string& host) { world_->dead.erase(host); }

void SimNetwork::partition(const std::string& a, const std::string& b, bool on) {
  if (on) {
    world_->partitions.insert(pair_of(a, b));
    return;
  }
  world_->partitions.erase(pair_of(a, b));
  world_->each_end([&](const std::shared_ptr<End>& end) { world_->pump(end); });
}

void SimNetwork::set_latency(const std::string& a, const std::string& b, Duration latency) {
  world_->latencies[pair_of(a, b)] = latency;
}

void SimNetwork::skew(const std::string& host, double drift, Duration ahead) {
  world_->clocks[host] = std::make_unique<SkewedClock>(world_->clock, drift, ahead);
}

void SimNetwork::limit_links(LinkLimits limits) { world_->limits = limits; }

void SimNetwork::on_frame(
    std::function<void(const std::string&, const std::string&, const wire::Frame&)> fn) {
  world_->observer = std::move(fn);
}

std::uint64_t SimNetwork::delivered_frames() const noexcept { return world_->delivered_frames; }
std::uint64_t SimNetwork::delivered_bytes() const noexcept { return world_->delivered_bytes; }

}  // namespace farmesh::net
