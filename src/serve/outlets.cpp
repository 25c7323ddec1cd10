#include "serve/outlets.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "net/task.hpp"

namespace farmesh::serve {
namespace {

using ConnectionPtr = std::shared_ptr<net::Connection>;

struct Outlet {
  std::string address;
  ConnectionPtr connection;  // none while it is dialled
  std::deque<Outlets::Parcel> waiting;
  std::uint64_t waiting_bytes = 0;  // payloads of their own; parts belong to the history
  net::TimerId retry = 0;
  TimePoint used;
};

wire::Frame joined(Outlets::Parcel& parcel) {
  if (parcel.parts.size() == 1) parcel.frame.payload = std::move(parcel.parts.front());
  if (parcel.parts.size() < 2) return std::move(parcel.frame);
  std::size_t size = 0;
  for (const Payload& part : parcel.parts) size += part.size();
  AlignedBuffer rows(size);
  std::byte* end = rows.data();
  for (const Payload& part : parcel.parts) {
    std::memcpy(end, part.view().data(), part.size());
    end += part.size();
  }
  parcel.frame.payload = Payload(std::move(rows));
  return std::move(parcel.frame);
}

}  // namespace

struct Outlets::State : std::enable_shared_from_this<State> {
  State(net::Transport& t, net::Connection::Identity i, OutletOptions o, Handlers h)
      : transport(t), identity(std::move(i)), options(o), handlers(std::move(h)) {}

  net::Clock& clock() noexcept { return transport.clock(); }

  Outlet* find(const std::string& address);
  Outlet* find_or_dial(const std::string& address);
  void make_room();
  static net::Task<void> dial(std::shared_ptr<State> self, std::string address);
  void dialled(const std::string& address, Result<ConnectionPtr> connection);
  void pump(Outlet& outlet);
  void pump_later(Outlet& outlet);
  void received(const std::string& address, const ConnectionPtr& connection, wire::Frame frame);
  void lost(const std::string& address, const ConnectionPtr& connection, const Error& error);
  void give_up(const std::string& address, const Error& error);

  net::Transport& transport;
  net::Connection::Identity identity;
  OutletOptions options;
  Handlers handlers;
  std::map<std::string, Outlet> outlets;
  bool closed = false;
};

Outlet* Outlets::State::find(const std::string& address) {
  const auto entry = outlets.find(address);
  return entry == outlets.end() ? nullptr : &entry->second;
}

/// Nothing when there are too many.
Outlet* Outlets::State::find_or_dial(const std::string& address) {
  if (Outlet* known = find(address)) return known;
  make_room();
  if (outlets.size() >= options.max_outlets) return nullptr;
  Outlet& outlet = outlets[address];
  outlet.address = address;
  net::spawn(clock().executor(), "serve dial", dial(shared_from_this(), address));
  return &outlet;
}

/// Closes connections unused for long, and the one unused for longest if there are too many.
void Outlets::State::make_room() {
  const auto close_unused = [this](TimePoint before) {
    std::erase_if(outlets, [&](const auto& entry) {
      const Outlet& outlet = entry.second;
      return outlet.connection && outlet.waiting.empty() && outlet.used <= before;
    });
  };
  close_unused(clock().now() - options.unused_timeout);
  if (outlets.size() < options.max_outlets) return;
  TimePoint oldest = TimePoint::max();
  for (const auto& [address, outlet] : outlets) {
    if (outlet.connection && outlet.waiting.empty()) oldest = std::min(oldest, outlet.used);
  }
  // One used a moment ago may carry rows that are still on their way.
  if (oldest <= clock().now() - options.connection.ping_interval) close_unused(oldest);
}

net::Task<void> Outlets::State::dial(std::shared_ptr<State> self, std::string address) {
  const std::weak_ptr<State> weak = self;
  net::Connection::FrameHandler on_frame = [weak, address](const ConnectionPtr& connection,
                                                           wire::Frame frame) {
    const auto state = weak.lock();
    if (state && !state->closed) state->received(address, connection, std::move(frame));
  };
  net::Connection::CloseHandler on_close = [weak, address](const ConnectionPtr& connection,
                                                           const Error& error) {
    const auto state = weak.lock();
    if (state && !state->closed) state->lost(address, connection, error);
  };
  const TimePoint deadline = self->clock().now() + self->options.dial_timeout;
  auto connecting =
      net::Connection::connect(self->transport, address, self->identity, std::move(on_frame),
                               std::move(on_close), deadline, self->options.connection);
  Result<ConnectionPtr> connection = co_await std::move(connecting);
  if (!self->closed) self->dialled(address, std::move(connection));
}

void Outlets::State::dialled(const std::string& address, Result<ConnectionPtr> connection) {
  Outlet* outlet = find(address);
  if (outlet == nullptr) return;
  if (!connection) return give_up(address, connection.error());
  outlet->connection = *std::move(connection);
  pump(*outlet);
}

void Outlets::State::pump(Outlet& outlet) {
  if (!outlet.connection) return;
  // Of a connection that has ended, the close handler gives up what waits.
  while (!outlet.waiting.empty() && outlet.connection->is_open()) {
    if (outlet.connection->queued_bytes() > options.max_queued_bytes) return pump_later(outlet);
    Parcel parcel = std::move(outlet.waiting.front());
    outlet.waiting.pop_front();
    outlet.waiting_bytes -= parcel.frame.payload.size();
    const Result<void> sent = outlet.connection->push(joined(parcel));
    if (!sent) handlers.on_undelivered(outlet.address, parcel, sent.error());
  }
}

void Outlets::State::pump_later(Outlet& outlet) {
  if (outlet.retry != 0) return;
  outlet.retry = clock().call_at(clock().now() + options.retry,
                                 [weak = weak_from_this(), address = outlet.address] {
                                   const auto self = weak.lock();
                                   Outlet* known = self ? self->find(address) : nullptr;
                                   if (known == nullptr) return;
                                   known->retry = 0;
                                   self->pump(*known);
                                 });
}

void Outlets::State::received(const std::string& address, const ConnectionPtr& connection,
                              wire::Frame frame) {
  if (frame.verb == wire::Verb::error) return handlers.on_error(address, frame);
  connection->fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " on a push link"});
}

void Outlets::State::lost(const std::string& address, const ConnectionPtr& connection,
                          const Error& error) {
  const Outlet* outlet = find(address);
  if (outlet == nullptr || outlet->connection != connection) return;
  give_up(address, error);
  handlers.on_lost(address, error);
}

/// Forgets the outlet; whatever waits there comes back.
void Outlets::State::give_up(const std::string& address, const Error& error) {
  auto outlet = outlets.extract(address);
  clock().cancel(outlet.mapped().retry);
  for (const Parcel& parcel : outlet.mapped().waiting) {
    handlers.on_undelivered(address, parcel, error);
  }
}

Outlets::Outlets(net::Transport& transport, net::Connection::Identity identity,
                 OutletOptions options, Handlers handlers)
    : state_(
          std::make_shared<State>(transport, std::move(identity), options, std::move(handlers))) {}

Outlets::~Outlets() {
  state_->closed = true;
  for (const auto& [address, outlet] : std::exchange(state_->outlets, {})) {
    state_->clock().cancel(outlet.retry);
    if (outlet.connection) outlet.connection->close();
  }
}

void Outlets::send(const std::string& address, Parcel parcel) {
  State& state = *state_;
  Outlet* outlet = state.find_or_dial(address);
  if (outlet == nullptr) {
    return state.handlers.on_undelivered(address, parcel,
                                         {Errc::quota, "too many next peers at once"});
  }
  const std::uint64_t bytes = parcel.frame.payload.size();
  if (outlet->waiting_bytes + bytes > state.options.max_waiting_bytes ||
      outlet->waiting.size() >= state.options.max_waiting_parcels) {
    return state.handlers.on_undelivered(address, parcel,
                                         {Errc::busy, "the next peer does not keep up"});
  }
  outlet->used = state.clock().now();
  outlet->waiting_bytes += bytes;
  outlet->waiting.push_back(std::move(parcel));
  if (outlet->retry == 0) state.pump(*outlet);
}

Duration Outlets::round_trip(const std::string& address) const {
  const Outlet* outlet = state_->find(address);
  return outlet != nullptr && outlet->connection ? outlet->connection->round_trip() : Duration{};
}

std::uint32_t Outlets::connections() const noexcept {
  return static_cast<std::uint32_t>(
      std::count_if(state_->outlets.begin(), state_->outlets.end(),
                    [](const auto& entry) { return entry.second.connection != nullptr; }));
}

}  // namespace farmesh::serve
