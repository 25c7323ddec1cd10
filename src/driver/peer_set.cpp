// Connections to peers, and what comes over them.

#include <algorithm>

#include "base/log.hpp"
#include "driver/peer_set_impl.hpp"

namespace farmesh::driver {
namespace {

using net::Connection;
using wire::Frame;
using wire::Verb;

/// The session that a pushed frame is about; nothing if it is about none.
Result<std::optional<SessionId>> session_of(const Frame& frame) {
  if (frame.verb == Verb::step && frame.reply) {
    const auto message = wire::decode<wire::StepReply>(frame.header);
    if (!message) return message.error();
    return std::optional(message->session);
  }
  if (frame.verb == Verb::token && frame.reply) {
    const auto message = wire::decode<wire::TokenMessage>(frame.header);
    if (!message) return message.error();
    return std::optional(message->session);
  }
  if (frame.verb == Verb::error) {
    const auto message = wire::decode<wire::ErrorMessage>(frame.header);
    if (!message) return message.error();
    return message->about_session ? std::optional(message->session) : std::nullopt;
  }
  return {Errc::unexpected_verb, std::string(wire::name(frame.verb)) + " sent to a driver"};
}

/// Nobody is there, or somebody else.
bool is_unreachable(Errc code) {
  return code == Errc::connection_refused || code == Errc::connection_lost ||
         code == Errc::timeout || code == Errc::tls_failed || code == Errc::identity_mismatch;
}

std::string short_hex(const ModelHash& hash) { return to_hex(std::span(hash.bytes).first(6)); }

}  // namespace

Known* PeerSet::Impl::find(const std::string& address) {
  const auto found = std::find_if(peers.begin(), peers.end(),
                                  [&](const auto& peer) { return peer->address == address; });
  return found == peers.end() ? nullptr : found->get();
}

Known& PeerSet::Impl::find_or_add(const std::string& address) {
  if (Known* known = find(address)) return *known;
  // Whoever still refers to a forgotten one by a connection that has ended does nothing with it.
  if (Known* known = find({})) {
    *known = Known();
    known->address = address;
    return *known;
  }
  peers.push_back(std::make_unique<Known>());
  peers.back()->address = address;
  return *peers.back();
}

// --- dialling ------------------------------------------------------------------------------

net::Task<PeerSet::Impl::Connected> PeerSet::Impl::dial(std::shared_ptr<Impl> self, Known& peer,
                                                        TimePoint deadline, bool any_class) {
  if (self->closed) co_return Error{Errc::closed, "the peer set is gone"};
  if (peer.connection) co_return peer.connection;
  if (peer.local) co_return Error{Errc::closed, peer.address + " is no longer in this process"};
  if (peer.dialling) {  // somebody else's dial will do
    const std::shared_ptr<net::Event> dialling = peer.dialling;
    const bool ended = co_await dialling->wait(deadline);
    if (peer.connection) co_return peer.connection;
    if (!ended) co_return Error{Errc::timeout, peer.address + " is still being dialled"};
    if (peer.last_failure.code != Errc::ok) co_return peer.last_failure;
    co_return Error{Errc::connection_lost, peer.address + " was lost at once"};
  }
  const auto dialling = std::make_shared<net::Event>(self->clock());
  peer.dialling = dialling;
  const TimePoint limit = std::min(deadline, self->clock().now() + self->options.dial_timeout);
  auto connecting = Connection::connect(self->transport, peer.address, self->identity(),
                                        self->frame_handler(peer), self->close_handler(peer), limit,
                                        self->options.connection);
  Connected connection = co_await std::move(connecting);
  peer.dialling = nullptr;
  connection = self->welcome(peer, std::move(connection), any_class);
  dialling->set();
  co_return connection;
}

net::Task<void> PeerSet::Impl::dial_in_round(std::shared_ptr<Impl> self, Known& peer,
                                             TimePoint deadline, std::shared_ptr<Round> round) {
  auto dialling = dial(self, peer, deadline);
  const Connected connection = co_await std::move(dialling);
  if (!connection) round->failures.emplace_back(peer.address, connection.error());
  if (--round->pending == 0 || (connection && round->until_one)) round->over.set();
}

Connection::Identity PeerSet::Impl::identity() {
  Connection::Identity identity;
  identity.hello = [hello = options.hello] { return hello; };
  return identity;
}

Connection::FrameHandler PeerSet::Impl::frame_handler(Known& peer) {
  return
      [weak = weak_from_this(), &peer](const std::shared_ptr<Connection>& connection, Frame frame) {
        const auto self = weak.lock();
        if (self && !self->closed) self->dispatch(peer, connection, std::move(frame));
      };
}

Connection::CloseHandler PeerSet::Impl::close_handler(Known& peer) {
  return [weak = weak_from_this(), &peer](const std::shared_ptr<Connection>& connection,
                                          const Error& error) {
    const auto self = weak.lock();
    if (!self || self->closed || peer.connection != connection) return;
    self->lost(peer, error);
  };
}

/// Takes a fresh connection in, or says why not.
PeerSet::Impl::Connected PeerSet::Impl::welcome(Known& peer, Connected connection, bool any_class) {
  if (connection && closed) {
    (*connection)->close();
    return {Errc::closed, "the peer set is gone"};
  }
  if (!connection) {
    failed(peer, connection.error());
    const bool gone = is_unreachable(connection.error().code);
    if (gone && !closed && options.on_unreachable) options.on_unreachable(peer.address);
    return connection;
  }
  const wire::Service& service = (*connection)->remote().service;
  Result<void> usable = check(peer, service);
  const Result<void> same_class = check_class(peer, service);
  peer.other_class = usable && !same_class;
  if (peer.other_class) {
    peer.service = service;  // for sessions that nobody else can go on with
    if (!any_class) usable = same_class;
  }
  if (!usable) {
    log(LogLevel::warning, "driver", usable.error().to_string());
    (*connection)->close();
    failed(peer, usable.error());
    return usable.error();
  }
  adopt(service);
  peer.node_id = (*connection)->remote().node_id;
  peer.endpoint = (*connection)->remote_endpoint();
  peer.connection = *connection;
  peer.service = service;
  ask_for_missed_receipts(**connection);
  return connection;
}

Result<void> PeerSet::Impl::check(const Known& peer, const wire::Service& service) {
  if (service.span.empty() && !service.head) {
    return {Errc::span_unavailable, peer.address + " serves no layers and no head"};
  }
  if (options.model_hash != ModelHash{} && service.model_hash != options.model_hash) {
    return {Errc::weights_mismatch, peer.address + " serves other weights (" +
                                        short_hex(service.model_hash) + ", wanted " +
                                        short_hex(options.model_hash) + ")"};
  }
  if (first && (service.num_layers != first->num_layers ||
                service.hidden_size != first->hidden_size || service.residual != first->residual)) {
    return {Errc::config_mismatch, peer.address + " describes the model's shape otherwise"};
  }
  return {};
}

Result<void> PeerSet::Impl::check_class(const Known& peer, const wire::Service& service) const {
  if (options.numerics_class.empty() || service.numerics_class == options.numerics_class) return {};
  return {Errc::numerics_mismatch, peer.address + " computes as " + service.numerics_class +
                                       ", wanted " + options.numerics_class};
}

/// What was left open is settled by the first peer.
void PeerSet::Impl::adopt(const wire::Service& service) {
  if (options.model_hash == ModelHash{}) options.model_hash = service.model_hash;
  if (options.numerics_class.empty()) options.numerics_class = service.numerics_class;
  if (!first) first = service;
}

// --- what became of them -------------------------------------------------------------------

void PeerSet::Impl::failed(Known& peer, const Error& error) {
  peer.last_failure = error;
  const int doublings = std::min(peer.failures, 16);
  const Duration ban = std::min<Duration>(options.ban * (1 << doublings), options.max_ban);
  ++peer.failures;
  peer.banned_until = clock().now() + ban;
}

void PeerSet::Impl::lost(Known& peer, const Error& error) {
  if (peer.connection && peer.round_trip == Duration::zero()) {
    peer.round_trip = peer.connection->round_trip();
    peer.round_trip_at = clock().now();
  }
  peer.connection = nullptr;
  failed(peer, error);
  for (const auto& handler : handlers()) handler->on_peer_lost(peer.address, error);
}

std::vector<std::shared_ptr<SessionHandler>> PeerSet::Impl::handlers() const {
  std::vector<std::shared_ptr<SessionHandler>> alive;
  for (const auto& [session, weak] : sessions) {
    if (auto handler = weak.lock()) alive.push_back(std::move(handler));
  }
  return alive;
}

void PeerSet::Impl::dispatch(const Known& peer, const std::shared_ptr<Connection>& connection,
                             Frame frame) {
  if (frame.verb == Verb::receipt) return take_receipt(connection, frame);
  const Result<std::optional<SessionId>> session = session_of(frame);
  if (!session) return connection->fail(session.error());
  if (!*session) {
    // An answer on an exchange's stream that names no session: whoever asked knows the stream.
    for (const auto& handler : handlers()) handler->on_frame(peer.address, frame);
    return;
  }
  const auto entry = sessions.find(**session);
  if (entry == sessions.end()) return;
  const std::shared_ptr<SessionHandler> handler = entry->second.lock();
  if (handler) handler->on_frame(peer.address, std::move(frame));
}

/// Bytes that are no receipt end the connection; a receipt that is beside the point is refused.
void PeerSet::Impl::take_receipt(const std::shared_ptr<Connection>& connection,
                                 const Frame& frame) {
  const ByteView bytes = frame.payload.view();
  const auto receipt = wire::decode_signed_receipt(
      {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  if (!receipt || frame.reply) {
    ++refused_receipts;
    return connection->fail({Errc::bad_payload, "not a receipt"});
  }
  const auto known = bills.find(receipt->receipt.account);
  const auto bill = known == bills.end() ? nullptr : known->second.lock();
  const Result<void> taken =
      bill && options.key
          ? bill->take(connection->remote().node_id, *receipt, *options.key)
          : Result<void>(Errc::receipt_invalid, "receipt: of a session that nobody pays for");
  if (taken) return;
  ++refused_receipts;
  log(LogLevel::warning, "driver",
      short_name(connection->remote().node_id) + ": " + taken.error().to_string());
}

void PeerSet::Impl::ask_for_receipts(Connection& connection,
                                     std::span<const wire::AccountId> accounts) {
  const std::vector<std::uint8_t> bytes = wire::encode(accounts);
  Frame frame;
  frame.verb = Verb::receipt;
  frame.payload = Payload::copy_of(std::as_bytes(std::span(bytes)));
  // Whom it does not reach is asked when it comes back.
  static_cast<void>(connection.push(std::move(frame)));
}

void PeerSet::Impl::ask_for_missed_receipts(Connection& connection) {
  if (!options.key) return;
  std::vector<wire::AccountId> accounts;
  for (const auto& [account, weak] : bills) {
    const auto bill = weak.lock();
    if (!bill || !bill->wants(connection.remote().node_id)) continue;
    accounts.push_back(account);
    if (accounts.size() < wire::kMaxAskedAccounts) continue;
    ask_for_receipts(connection, accounts);
    accounts.clear();
  }
  if (!accounts.empty()) ask_for_receipts(connection, accounts);
}

// --- PeerSet -------------------------------------------------------------------------------

PeerSet::PeerSet(net::Transport& transport, PeerSetOptions options)
    : impl_(std::make_shared<Impl>(transport, std::move(options))) {}

PeerSet::~PeerSet() {
  impl_->closed = true;
  for (const auto& peer : impl_->peers) {
    if (peer->connection) peer->connection->close();
  }
}

void PeerSet::add(const std::string& address) { impl_->find_or_add(address); }

void PeerSet::forget(const std::string& address) {
  Known* peer = address.empty() ? nullptr : impl_->find(address);
  if (peer == nullptr || peer->connection || peer->dialling || peer->refreshing || peer->local)
    return;
  peer->address.clear();
  std::erase_if(impl_->links, [&](const auto& link) {
    return link.first.first == address || link.first.second == address;
  });
}

net::Task<Result<void>> PeerSet::add_local(std::string name, std::shared_ptr<net::Link> link) {
  const std::shared_ptr<Impl> impl = impl_;
  Known& peer = impl->find_or_add(name);
  peer.local = true;
  const TimePoint deadline = impl->clock().now() + impl->options.dial_timeout;
  auto connecting = Connection::connect_over(std::move(link), impl->clock(), impl->identity(),
                                             impl->frame_handler(peer), impl->close_handler(peer),
                                             deadline, impl->options.connection);
  Impl::Connected connection = co_await std::move(connecting);
  connection = impl->welcome(peer, std::move(connection), false);
  if (!connection) co_return connection.error();
  co_return Result<void>();
}

net::Task<std::vector<std::pair<std::string, Error>>> PeerSet::connect_all(TimePoint deadline,
                                                                           bool even_banned,
                                                                           bool until_one) {
  const std::shared_ptr<Impl> impl = impl_;
  const auto round = std::make_shared<Impl::Round>(impl->clock());
  round->until_one = until_one;
  const TimePoint now = impl->clock().now();
  // By number: whoever is told of a dial that failed at once may add a peer.
  for (std::size_t i = 0; i < impl->peers.size(); ++i) {
    Known& peer = *impl->peers[i];
    if (peer.connection || peer.local || peer.address.empty()) continue;
    if (!even_banned && now < peer.banned_until) continue;
    ++round->pending;
    net::spawn(impl->clock().executor(), "driver dial",
               Impl::dial_in_round(impl, peer, deadline, round));
  }
  // Each dial ends by its deadline.
  if (round->pending > 0) co_await round->over.wait(TimePoint::max());
  co_return round->failures;
}

net::Task<Result<std::shared_ptr<net::Connection>>> PeerSet::connection(std::string address,
                                                                        TimePoint deadline,
                                                                        bool any_class) {
  return Impl::dial(impl_, impl_->find_or_add(address), deadline, any_class);
}

void PeerSet::report_failure(const std::string& address, const Error& error) {
  if (Known* peer = impl_->find(address)) impl_->failed(*peer, error);
}

void PeerSet::disconnect(const std::string& address, const Error& error) {
  Known* peer = impl_->find(address);
  if (peer == nullptr || !peer->connection) return;
  const std::shared_ptr<Connection> connection = peer->connection;
  impl_->lost(*peer, error);
  connection->close();
}

void PeerSet::register_session(const SessionId& session, std::weak_ptr<SessionHandler> handler) {
  impl_->sessions[session] = std::move(handler);
}

void PeerSet::unregister_session(const SessionId& session) { impl_->sessions.erase(session); }

void PeerSet::register_bill(const std::shared_ptr<Bill>& bill) {
  auto& bills = impl_->bills;
  bills[bill->account()] = bill;
  if (bills.size() < 2 * impl_->bills_purged + 64) return;
  std::erase_if(bills, [](const auto& entry) { return entry.second.expired(); });
  impl_->bills_purged = bills.size();
}

void PeerSet::ask_receipts(const std::shared_ptr<Bill>& bill) {
  register_bill(bill);
  const std::vector<wire::AccountId> account{bill->account()};
  for (const auto& peer : impl_->peers) {
    if (!peer->connection || peer->local || !bill->wants(peer->node_id)) continue;
    Impl::ask_for_receipts(*peer->connection, account);
  }
}

std::uint64_t PeerSet::refused_receipts() const noexcept { return impl_->refused_receipts; }

net::Transport& PeerSet::transport() noexcept { return impl_->transport; }
net::Clock& PeerSet::clock() noexcept { return impl_->clock(); }
const PeerSetOptions& PeerSet::options() const noexcept { return impl_->options; }

}  // namespace farmesh::driver
