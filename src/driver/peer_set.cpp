#include "driver/peer_set.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "net/event.hpp"

namespace farmesh::driver {
namespace {

using net::Connection;
using wire::Frame;
using wire::Verb;

struct Known {
  std::string address;
  bool local = false;
  std::shared_ptr<Connection> connection;  // open, or none
  std::shared_ptr<net::Event> dialling;    // while a dial is under way; set at its end
  NodeId node_id{};                        // that the latest connection proved
  std::optional<wire::Service> service;    // as last told
  bool other_class = false;                // refused for that alone
  Duration round_trip{};                   // EWMA of what refresh() measured
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

struct Link {
  Duration way{};
  TimePoint at{};
};
constexpr std::size_t kMaxLinks = 65'536;

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

struct PeerSet::Impl : std::enable_shared_from_this<PeerSet::Impl> {
  using Connected = Result<std::shared_ptr<Connection>>;
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
  Connection::Identity identity();
  Connection::FrameHandler frame_handler(Known& peer);
  Connection::CloseHandler close_handler(Known& peer);
  Connected welcome(Known& peer, Connected connection, bool any_class);
  Result<void> check(const Known& peer, const wire::Service& service);
  Result<void> check_class(const Known& peer, const wire::Service& service) const;
  static net::Task<void> refresh(std::shared_ptr<Impl> self, Known& peer);
  bool in_view(const Known& peer, bool any_class) const;
  void adopt(const wire::Service& service);

  void failed(Known& peer, const Error& error);
  void lost(Known& peer, const Error& error);
  void dispatch(const Known& peer, const std::shared_ptr<Connection>& connection, Frame frame);
  void take_receipt(const std::shared_ptr<Connection>& connection, const Frame& frame);
  static void ask_for_receipts(Connection& connection, std::span<const wire::AccountId> accounts);
  void ask_for_missed_receipts(Connection& connection);
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

Known* PeerSet::Impl::find(const std::string& address) {
  const auto found = std::find_if(peers.begin(), peers.end(),
                                  [&](const auto& peer) { return peer->address == address; });
  return found == peers.end() ? nullptr : found->get();
}

Known& PeerSet::Impl::find_or_add(const std::string& address) {
  if (Known* known = find(address)) return *known;
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
  for (const auto& peer : impl->peers) {
    if (peer->connection || peer->local) continue;
    if (!even_banned && now < peer->banned_until) continue;
    ++round->pending;
    net::spawn(impl->clock().executor(), "driver dial",
               Impl::dial_in_round(impl, *peer, deadline, round));
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

bool PeerSet::Impl::in_view(const Known& peer, bool any_class) const {
  if (!peer.service || peer.service->span.empty()) return false;
  if (peer.other_class && !any_class) return false;
  return !peer.local || peer.connection != nullptr;
}

std::vector<route::PeerView> PeerSet::view(bool any_class) const {
  const TimePoint now = impl_->clock().now();
  const auto age = [now](TimePoint at) { return std::max(now - at, Duration::zero()); };
  std::vector<route::PeerView> views;
  for (const auto& peer : impl_->peers) {
    if (!impl_->in_view(*peer, any_class)) continue;
    route::PeerView view;
    view.address = peer->address;
    view.span = peer->service->span;
    view.node_id = peer->node_id;
    view.numerics_class = peer->service->numerics_class;
    view.reachable_by_peers = !peer->local;
    view.round_trip = peer->round_trip;
    view.round_trip_age = age(peer->round_trip_at);
    if (peer->round_trip == Duration::zero() && peer->connection) {  // as its hello measured
      view.round_trip = peer->connection->round_trip();
      view.round_trip_age = {};
    }
    view.layer_time = peer->layer_time;
    view.layer_time_age = age(peer->layer_time_at);
    view.layer_samples = peer->layer_samples;
    if (peer->claims) {
      view.place = peer->claims->place;
      view.relayed = peer->claims->relayed;
      view.claimed_layer_time = peer->claims->layer_time;
      view.queued_rows = peer->claims->queued_rows;
      view.free_tokens = peer->claims->free_tokens;
      view.load_age = age(peer->claims_at);
    }
    if (peer->load_at != TimePoint{}) {
      view.queued_rows = peer->load.queued_rows;
      view.free_tokens = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(std::uint64_t{peer->load.free_pages} * peer->service->page_tokens,
                                  route::kUnknownRoom - 1));
      view.load_age = age(peer->load_at);
    }
    view.banned = now < peer->banned_until;
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<route::LinkView> PeerSet::links(bool any_class) const {
  if (impl_->links.empty()) return {};
  std::unordered_map<std::string, std::uint32_t> indices;
  std::uint32_t index = 0;
  for (const auto& peer : impl_->peers) {
    if (impl_->in_view(*peer, any_class)) indices.emplace(peer->address, index++);
  }
  std::vector<route::LinkView> links;
  const TimePoint now = impl_->clock().now();
  for (const auto& [ends, link] : impl_->links) {
    const auto from = indices.find(ends.first);
    const auto to = indices.find(ends.second);
    if (from == indices.end() || to == indices.end()) continue;
    links.push_back({from->second, to->second, link.way, now - link.at});
  }
  return links;
}

void PeerSet::report_link(const std::string& from, const std::string& to, Duration round_trip) {
  if (impl_->links.size() >= kMaxLinks && !impl_->links.contains({from, to})) return;
  impl_->links[{from, to}] = {round_trip / 2, impl_->clock().now()};
}

void PeerSet::report_claims(const std::string& address, const PeerClaims& claims) {
  Known* peer = impl_->find(address);
  if (peer == nullptr || peer->local) return;
  peer->claims = claims;
  peer->claims_at = impl_->clock().now();
}

void PeerSet::refresh(Duration max_age) {
  const TimePoint now = impl_->clock().now();
  for (const auto& peer : impl_->peers) {
    if (!peer->connection || peer->refreshing || peer->service->span.empty()) continue;
    if (peer->load_at != TimePoint{} && now - peer->load_at <= max_age) continue;
    peer->refreshing = true;
    net::spawn(impl_->clock().executor(), "driver refresh", Impl::refresh(impl_, *peer));
  }
}

net::Task<void> PeerSet::Impl::refresh(std::shared_ptr<Impl> self, Known& peer) {
  const std::shared_ptr<Connection> connection = peer.connection;
  const TimePoint asked = self->clock().now();
  auto asking = connection->call(Verb::ping, wire::encode(wire::Ping{}), {},
                                 asked + self->options.dial_timeout);
  const Result<Frame> answer = co_await std::move(asking);
  peer.refreshing = false;
  if (self->closed || !answer) co_return;  // silence is for steps and keep-alive to judge
  const Result<wire::Pong> pong = wire::decode<wire::Pong>(answer->header);
  if (!pong) co_return connection->fail(pong.error());
  const TimePoint now = self->clock().now();
  peer.load = *pong;
  peer.load_at = now;
  const Duration sample = now - asked;
  peer.round_trip = peer.round_trip == Duration::zero()
                        ? sample
                        : peer.round_trip + (sample - peer.round_trip) / 8;
  peer.round_trip_at = now;
}

NodeId PeerSet::node_id(const std::string& address) const {
  for (const auto& peer : impl_->peers) {
    if (peer->address == address) return peer->node_id;
  }
  return {};
}

bool PeerSet::is_connected(const std::string& address) const {
  for (const auto& peer : impl_->peers) {
    if (peer->address == address) return peer->connection != nullptr;
  }
  return false;
}

std::vector<std::string> PeerSet::heads() const {
  const TimePoint now = impl_->clock().now();
  std::vector<const Known*> offering;
  for (const auto& peer : impl_->peers) {
    if (peer->connection && peer->service->head) offering.push_back(peer.get());
  }
  std::stable_sort(offering.begin(), offering.end(), [now](const Known* a, const Known* b) {
    const bool a_banned = now < a->banned_until;
    const bool b_banned = now < b->banned_until;
    if (a_banned != b_banned) return b_banned;
    return a->connection->round_trip() < b->connection->round_trip();
  });
  std::vector<std::string> addresses;
  for (const Known* peer : offering) addresses.push_back(peer->address);
  return addresses;
}

std::optional<wire::Service> PeerSet::service() const {
  for (const auto& peer : impl_->peers) {
    if (peer->connection) return peer->service;
  }
  return std::nullopt;
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

void PeerSet::report_success(const std::string& address, Span span, Duration hop_time,
                             std::uint32_t rows) {
  Known* peer = impl_->find(address);
  if (peer == nullptr || span.empty() || rows == 0) return;
  peer->failures = 0;
  peer->banned_until = {};
  if (rows > 1 && peer->single_rows) return;
  const Duration sample = hop_time / (span.size() * rows);
  if (peer->layer_time == Duration::zero() || (rows == 1 && !peer->single_rows)) {
    peer->layer_time = sample;
  } else {
    peer->layer_time += (sample - peer->layer_time) / 8;
  }
  peer->single_rows = rows == 1;
  peer->layer_time_at = impl_->clock().now();
  ++peer->layer_samples;
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
