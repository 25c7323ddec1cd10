#include "serve/peer.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "serve/peer_impl.hpp"

namespace farmesh::serve {
namespace {

using wire::Frame;
using wire::Verb;

// Loops of one client that it has not closed; more are refused with quota.
constexpr std::size_t kMaxGenerating = 1'024;

std::string short_hex(const ModelHash& hash) { return to_hex(std::span(hash.bytes).first(6)); }

/// Empty where the address tells nobody how to get here.
std::string dialable(const std::string& address) {
  const bool any = address.starts_with("0.0.0.0:") || address.starts_with("[::]:");
  return any ? std::string() : address;
}

/// Tells why, then ends the link, which nobody listens to.
void refuse(net::Link& link, const Error& error) {
  wire::ErrorMessage message;
  message.code = error.code;
  message.detail = error.detail;
  Frame frame;
  frame.verb = Verb::error;
  frame.header = wire::encode(message);
  static_cast<void>(link.send(std::move(frame)));  // a courtesy
  link.close(error);
}

}  // namespace

// --- connections -----------------------------------------------------------------------------

Peer::Impl::Impl(net::Transport& t, Worker& w, PeerOptions o, GenerateService* g)
    : transport(t),
      clock(t.clock()),
      worker(w),
      options(std::move(o)),
      generate(g),
      history(options.history_bytes),
      shares(options.shares),
      meter(options.node_id, options.meter),
      drained(t.clock()) {}

void Peer::Impl::begin() {
  const std::weak_ptr<Impl> weak = weak_from_this();
  OutletOptions outlet_options;
  outlet_options.dial_timeout = options.dial_timeout;
  outlet_options.max_outlets = options.max_connections;
  outlet_options.connection = options.connection;
  // The outlets are this object's own and end with it.
  Outlets::Handlers handlers;
  handlers.on_undelivered = [this](const auto& address, const auto& parcel, const Error& error) {
    undelivered(address, parcel, error);
  };
  handlers.on_lost = [this](const auto& address, const Error& error) {
    next_hop_lost(address, error);
  };
  handlers.on_error = [this](const auto& address, const Frame& frame) {
    told_by_next_hop(address, frame);
  };
  outlets = std::make_unique<Outlets>(transport, identity(), outlet_options, std::move(handlers));
  worker.on_idle_close([weak](const SessionId& id) {
    if (const auto self = weak.lock()) self->end_session(id);
  });
}

void Peer::Impl::end() {
  draining = true;
  listener.reset();
  worker.on_idle_close({});
  while (!sessions.empty()) end_session(SessionId(sessions.begin()->first));
  for (auto& [key, client] : std::exchange(clients, {})) {
    while (!client.generating.empty()) stop_generate(client, *client.generating.begin());
    client.connection->close();
  }
  for (const auto& weak : std::exchange(links, {})) {
    if (const auto link = weak.lock()) link->close({Errc::closed, "the peer has ended"});
  }
  outlets.reset();
}

wire::Hello Peer::Impl::hello() const {
  const model::EngineInfo& info = worker.info();
  wire::Hello hello;
  hello.node_id = options.node_id;
  hello.software = options.software;
  hello.listen_address = options.advertised_address;
  if (hello.listen_address.empty() && listener)
    hello.listen_address = dialable(listener->address());
  hello.service.model_id = options.model_id;
  hello.service.model_hash = options.model_hash;
  hello.service.numerics_class = info.numerics_class;
  hello.service.span = info.blocks;
  hello.service.head = generate != nullptr;
  hello.service.num_layers = options.num_layers;
  hello.service.hidden_size = info.hidden_size;
  hello.service.vocab_size = info.vocab_size;
  hello.service.residual = info.residual;
  hello.service.page_tokens = info.page_tokens;
  return hello;
}

net::Connection::Identity Peer::Impl::identity() {
  const std::weak_ptr<Impl> weak = weak_from_this();
  net::Connection::Identity identity;
  identity.hello = [weak] {
    const auto self = weak.lock();
    return self ? self->hello() : wire::Hello();
  };
  identity.load = [weak] {
    const auto self = weak.lock();
    return self ? self->worker.load() : wire::Pong();
  };
  return identity;
}

Result<std::string> Peer::Impl::listen(const std::string& address) {
  auto listening =
      transport.listen(address, [weak = weak_from_this()](std::shared_ptr<net::Link> link) {
        if (const auto self = weak.lock()) self->accept(std::move(link));
      });
  if (!listening) return listening.error();
  listener = *std::move(listening);
  return listener->address();
}

void Peer::Impl::accept(std::shared_ptr<net::Link> link) {
  std::erase_if(links, [](const std::weak_ptr<net::Link>& weak) {
    const auto known = weak.lock();
    return !known || !known->is_open();
  });
  if (draining || links.size() >= options.max_connections) {
    return refuse(*link, draining ? Error{Errc::busy, "this peer is about to end"}
                                  : Error{Errc::quota, "as many connections as it may have"});
  }
  links.push_back(link);
  const std::weak_ptr<Impl> weak = weak_from_this();
  net::Connection::accept(
      std::move(link), clock, identity(),
      [weak](const ConnectionPtr& connection, Frame frame) {
        if (const auto self = weak.lock()) self->receive(connection, std::move(frame));
      },
      [weak](const ConnectionPtr& connection, const Error&) {
        if (const auto self = weak.lock()) self->disconnected(connection);
      },
      [weak](const ConnectionPtr& connection) {
        const auto self = weak.lock();
        if (self && self->outlets) self->clients[connection.get()].connection = connection;
      },
      options.connection);
}

/// With its driver, a session goes, and its pages are free at once.
void Peer::Impl::disconnected(const ConnectionPtr& connection) {
  const auto entry = clients.find(connection.get());
  if (entry == clients.end()) return;
  while (!entry->second.sessions.empty()) {
    end_session(SessionId(*entry->second.sessions.begin()));
  }
  while (!entry->second.generating.empty()) {
    stop_generate(entry->second, *entry->second.generating.begin());
  }
  clients.erase(entry);
}

net::Task<void> Peer::Impl::drain(std::shared_ptr<Impl> self, TimePoint deadline) {
  self->draining = true;
  self->drained.reset();
  if (!self->is_drained()) co_await self->drained.wait(deadline);
  if (self->outlets) self->end();
}

// --- requests --------------------------------------------------------------------------------

void Peer::Impl::receive(const ConnectionPtr& connection, Frame frame) {
  // Calls `handle(message)`; bytes that are no such message end the connection.
  const auto with = [&]<class Message>(Result<Message> message, const auto& handle) {
    if (!message) return connection->fail(message.error());
    handle(*std::move(message));
  };
  const auto leave_to = [&](const PeerOptions::RequestHandler& handler) {
    if (handler) return handler(connection, frame);
    static_cast<void>(connection->reply_error(
        frame, {Errc::unsupported, std::string(name(frame.verb)) + " is not served here"}));
  };
  if (!clients.contains(connection.get())) return;
  if (frame.reply && frame.verb != Verb::error) {
    return connection->fail({Errc::unexpected_verb, "an answer to nothing"});
  }
  switch (frame.verb) {
    case Verb::open:
      return with(wire::decode<wire::Open>(frame.header),
                  [&](const auto& message) { open(connection, frame, message); });
    case Verb::step:
      return with(wire::decode<wire::Step>(frame.header),
                  [&](auto message) { step(connection, frame, std::move(message)); });
    case Verb::truncate:
      return with(wire::decode<wire::Truncate>(frame.header),
                  [&](const auto& message) { truncate(connection, frame, message); });
    case Verb::replay:
      return with(wire::decode<wire::Replay>(frame.header),
                  [&](const auto& message) { replay(connection, frame, message); });
    case Verb::history:
      return with(wire::decode<wire::HistoryQuery>(frame.header),
                  [&](const auto& message) { tell_history(connection, frame, message); });
    case Verb::close:
      return with(wire::decode<wire::Close>(frame.header),
                  [&](const auto& message) { close(connection, frame, message); });
    case Verb::generate:
      return with(wire::decode<wire::Generate>(frame.header), [&](auto message) {
        start_generate(connection, std::move(frame), std::move(message));
      });
    case Verb::swarm: return leave_to(options.on_swarm);
    case Verb::reach:
    case Verb::relay: return leave_to(options.on_reach);
    case Verb::receipt: return tell_receipts(connection, frame);
    case Verb::error: return;  // of a request that this side has forgotten
    case Verb::hello:
    case Verb::ping:
    case Verb::token: break;
  }
  connection->fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " sent to a peer"});
}

Peer::Impl::Session* Peer::Impl::find(const SessionId& id) {
  const auto entry = sessions.find(id);
  return entry == sessions.end() ? nullptr : &entry->second;
}

Result<void> Peer::Impl::may_open(const wire::Open& message, const NodeId& driver) const {
  if (draining && !sessions.contains(message.session)) {
    return {Errc::busy, "this peer is about to end"};
  }
  if (message.model_hash != options.model_hash) {
    return {Errc::weights_mismatch, "serves " + short_hex(options.model_hash) + ", asked for " +
                                        short_hex(message.model_hash)};
  }
  const auto open = sessions.find(message.session);
  if (open != sessions.end() && open->second.activations != message.activations) {
    return {Errc::invalid_argument, "rows of an open session travel as they did"};
  }
  const std::string& numerics = worker.info().numerics_class;
  if (!message.numerics_class.empty() && message.numerics_class != numerics) {
    return {Errc::numerics_mismatch,
            "computes as " + numerics + ", asked for " + message.numerics_class};
  }
  if (!is_bounded(driver)) return {};
  return shares.allow(message.session, driver, message.max_positions);
}

void Peer::Impl::open(const ConnectionPtr& connection, const Frame& request,
                      const wire::Open& message) {
  const NodeId& driver = connection->remote().node_id;
  const Result<void> allowed = may_open(message, driver);
  const auto paid = allowed ? meter.admit(message, driver) : allowed.error();
  Result<wire::OpenReply> reply = paid ? worker.open(message, driver) : paid.error();
  if (!reply) {
    static_cast<void>(connection->reply_error(request, reply.error()));
    // A session that was to move and found no room is closed.
    if (!worker.positions(message.session)) end_session(message.session);
    return;
  }
  Session& session = sessions[message.session];
  if (session.span != message.span) history.forget(message.session);
  history.truncate(message.session, reply->held_positions);
  const auto before = clients.find(session.driver.lock().get());
  if (before != clients.end()) before->second.sessions.erase(message.session);
  clients[connection.get()].sessions.insert(message.session);
  if (is_bounded(driver)) shares.hold(message.session, driver, message.max_positions);
  meter.open(session.count, *paid, driver, message, reply->held_positions);
  session.driver = connection;
  session.epoch = message.epoch;
  session.span = message.span;
  session.activations = message.activations;
  reply->activations = message.activations;
  if (!message.traceparent.empty()) {
    log(LogLevel::info, "serve",
        "opened layers " + std::to_string(message.span.begin) + ":" +
            std::to_string(message.span.end) + ", trace " + message.traceparent);
  }
  static_cast<void>(connection->reply(request, Verb::open, wire::encode(*reply)));
}

void Peer::Impl::truncate(const ConnectionPtr& connection, const Frame& request,
                          const wire::Truncate& message) {
  const Result<void> truncated = worker.truncate(message);
  if (!truncated) {
    static_cast<void>(connection->reply_error(request, truncated.error()));
    return;
  }
  history.truncate(message.session, message.position);
  if (Session* session = find(message.session)) session->epoch = message.epoch;
  static_cast<void>(connection->reply(request, Verb::truncate, {}));
}

void Peer::Impl::tell_history(const ConnectionPtr& connection, const Frame& request,
                              const wire::HistoryQuery& message) {
  const auto positions = worker.positions(message.session);
  if (!positions) {
    static_cast<void>(connection->reply_error(request, {Errc::session_unknown, {}}));
    return;
  }
  const History::Range stored = history.stored(message.session);
  wire::HistoryReply reply{*positions, stored.begin, stored.end};
  reply.tells_received = true;
  reply.received = worker.received(message.session).value_or(*positions);
  static_cast<void>(connection->reply(request, Verb::history, wire::encode(reply)));
}

void Peer::Impl::close(const ConnectionPtr& connection, const Frame& request,
                       const wire::Close& message) {
  const Session* session = find(message.session);
  const bool is_driver = session != nullptr && session->driver.lock() == connection;
  end_session(message.session, is_driver ? std::optional(message.positions) : std::nullopt);
  Client& client = clients[connection.get()];
  if (client.generating.contains(message.session)) stop_generate(client, message.session);
  static_cast<void>(connection->reply(request, Verb::close, {}));
}

void Peer::Impl::end_session(const SessionId& id, std::optional<std::uint32_t> positions) {
  const auto entry = sessions.find(id);
  if (entry == sessions.end()) return;
  const SessionId session = id;  // may lie in what is erased here
  const ConnectionPtr connection = entry->second.driver.lock();
  const auto driver = clients.find(connection.get());
  if (driver != clients.end()) driver->second.sessions.erase(session);
  const bool reachable = connection && connection->is_open();
  if (const auto receipt = meter.close(entry->second.count, positions, reachable)) {
    send_receipt(connection, *receipt);
  }
  sessions.erase(entry);
  shares.release(session);
  worker.close(session);
  history.forget(session);
  if (is_drained()) drained.set();
}

/// A driver that was cut off, or has begun again, asks for what it may have missed.
void Peer::Impl::tell_receipts(const ConnectionPtr& connection, const Frame& request) {
  const ByteView bytes = request.payload.view();
  const auto accounts =
      wire::decode_accounts({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  if (!accounts) return connection->fail(accounts.error());
  for (const wire::AccountId& account : *accounts) {
    for (const auto& receipt : meter.again(connection->remote().node_id, account)) {
      send_receipt(connection, receipt);
    }
  }
}

/// One that does not arrive is made good by the next; the driver's log pays whatever arrives.
void Peer::Impl::send_receipt(const ConnectionPtr& driver, const wire::SignedReceipt& receipt) {
  const std::vector<std::uint8_t> bytes = wire::encode(receipt);
  Frame frame;
  frame.verb = Verb::receipt;
  frame.payload = Payload::copy_of(std::as_bytes(std::span(bytes)));
  static_cast<void>(driver->push(std::move(frame)));
}

// --- generation ------------------------------------------------------------------------------

void Peer::Impl::start_generate(const ConnectionPtr& connection, Frame request,
                                wire::Generate message) {
  Client& client = clients[connection.get()];
  const auto owner = generating.find(message.session);
  Error refusal;
  if (generate == nullptr) {
    refusal = {Errc::head_unavailable, "this peer hosts no head"};
  } else if (!meter.may_generate_for(connection->remote().node_id)) {
    refusal = {Errc::grant_required, "this node serves only what a signed grant pays for"};
  } else if (draining) {
    refusal = {Errc::busy, "this peer is about to end"};
  } else if (owner != generating.end() && owner->second != connection.get()) {
    refusal = {Errc::invalid_argument, "another client's session"};
  } else if (client.generating.size() >= kMaxGenerating) {
    refusal = {Errc::quota, "too many sessions that were not closed"};
  } else if (is_bounded(connection->remote().node_id)) {
    const std::uint64_t most = std::uint64_t{message.prompt_tokens} + message.max_tokens;
    const Result<void> allowed = shares.spend(connection->remote().node_id, most, clock.now());
    if (!allowed) refusal = allowed.error();
  }
  if (refusal.code != Errc::ok) {
    static_cast<void>(connection->reply_error(request, refusal));
    return;
  }
  generating[message.session] = connection.get();
  client.generating.insert(message.session);
  generate->start(connection, std::move(request), std::move(message));
}

void Peer::Impl::stop_generate(Client& client, const SessionId& id) {
  const SessionId session = id;  // may lie in what is erased here
  client.generating.erase(session);
  generating.erase(session);
  generate->cancel(session);
  if (is_drained()) drained.set();
}

// --- the class -------------------------------------------------------------------------------

Peer::Peer(net::Transport& transport, Worker& worker, PeerOptions options,
           GenerateService* generate)
    : impl_(std::make_shared<Impl>(transport, worker, std::move(options), generate)) {
  impl_->begin();
}

Peer::~Peer() {
  if (impl_->outlets) impl_->end();
}

Result<std::string> Peer::listen(const std::string& address) { return impl_->listen(address); }

void Peer::attach(std::shared_ptr<net::Link> link) { impl_->accept(std::move(link)); }

net::Task<void> Peer::drain(TimePoint deadline) { return Impl::drain(impl_, deadline); }

PeerStats Peer::stats() const noexcept {
  PeerStats stats = impl_->stats;
  stats.sessions = static_cast<std::uint32_t>(impl_->sessions.size());
  stats.connections = static_cast<std::uint32_t>(impl_->clients.size());
  if (impl_->outlets) stats.connections += impl_->outlets->connections();
  return stats;
}

}  // namespace farmesh::serve
