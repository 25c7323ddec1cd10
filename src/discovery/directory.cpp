#include "discovery/directory.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include <asio/post.hpp>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "net/event.hpp"
#include "wire/swarm.hpp"

namespace farmesh::discovery {
namespace {

using net::Connection;
using wire::Frame;
using wire::Verb;

constexpr std::chrono::milliseconds kFirstPause{250};  // between the first rounds; doubles
constexpr std::chrono::minutes kAnnounceEvery{5};      // the DHT keeps an announcement for thirty
constexpr int kEagerRounds = 6;                        // that announce: the DHT is still young
constexpr int kMaxPages = 64;                          // taken from one node at a time
constexpr std::chrono::seconds kFirstBackoff{5};       // after a failed contact; doubles
constexpr std::chrono::minutes kMaxBackoff{10};
// Many lookups at once would overflow the socket's buffer with their answers.
constexpr std::size_t kLookupsAtOnce = 5;
constexpr std::chrono::milliseconds kLookupPause{20};
constexpr std::size_t kMaxRemembered = 4'096;  // addresses that failed

std::int64_t system_unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::string dial_address(const NodeRecord& record) {
  if (record.addresses.empty()) return {};
  const std::string& address = record.addresses.front();
  return address.find("/p2p/") == std::string::npos ? address + "/p2p/" + to_string(record.id)
                                                    : address;
}

struct Directory::Impl : std::enable_shared_from_this<Impl> {
  using ConnectionPtr = std::shared_ptr<Connection>;

  /// What this node says of itself.
  struct Own {
    identity::NodeKey key;
    std::uint16_t port;
    std::function<NodeRecord()> describe;
    SignedRecord last{};
    TimePoint announced{};
    bool left = false;
  };
  struct Failure {
    int count = 0;
    TimePoint until{};
  };

  Impl(net::Transport& t, Rendezvous* r, DirectoryOptions o)
      : transport(t),
        clock(t.clock()),
        rendezvous(r),
        options(std::move(o)),
        table({options.mesh, options.model_hash, options.num_layers, options.max_records}),
        next_round(clock),
        stored(clock) {
    if (!options.unix_ms) options.unix_ms = system_unix_ms;
    std::array<std::uint8_t, 4> seed;
    random_bytes(seed);
    random.seed(seed[0] | seed[1] << 8 | seed[2] << 16 | static_cast<std::uint32_t>(seed[3]) << 24);
  }

  void begin();
  static net::Task<void> run(std::shared_ptr<Impl> self);
  void round();
  Duration half_period() const { return Duration(options.refresh) / 2; }

  void renew_own(bool leaving);
  void announce_own();
  void look_for_nodes();
  void look_up_items();
  void look_up_some();
  void found_peers(const std::vector<std::string>& addresses);
  void found_item(const DhtItem& item);

  void want(const std::string& address);
  void pump();
  void want_neighbours();
  bool knows(const std::string& address) const;
  static net::Task<void> ask(std::shared_ptr<Impl> self, std::string address);
  static net::Task<Result<void>> ask_pages(std::shared_ptr<Impl> self, ConnectionPtr connection);
  net::Task<Result<ConnectionPtr>> connect(const std::string& address);
  bool wants_to_keep(const std::string& address, const Connection& connection) const;
  void contact_failed(const std::string& address, const Error& error);
  void connection_ended(const std::string& address, const ConnectionPtr& connection);
  RecordTable::Outcome take(std::string_view bytes, const NodeId* must_be = nullptr);

  void answer(const ConnectionPtr& connection, const Frame& request);
  Result<wire::SwarmReply> reply_to(const NodeId& asker, const wire::Swarm& query);
  bool within_rate();
  void changed();
  bool is_own(const NodeId& id) const { return own && own->key.id() == id; }

  net::Transport& transport;
  net::Clock& clock;
  Rendezvous* rendezvous;
  DirectoryOptions options;
  RecordTable table;
  std::optional<Own> own;
  std::vector<std::string> contacts;
  std::map<std::string, ConnectionPtr> neighbours;  // by the address that was dialled
  std::deque<std::string> waiting;                  // to be asked
  std::deque<identity::PublicKey> late;             // whose items are to be looked up
  std::set<std::string> asking;
  std::map<std::string, Failure> failures;
  net::Event next_round;
  net::Event stored;
  std::function<void()> on_change;
  bool change_posted = false;
  bool running = false;
  bool closed = false;
  int rounds = 0;
  double allowance = 0;
  TimePoint allowed_at{};
  std::mt19937 random;
  DirectoryStats stats;
};

// --- rounds ----------------------------------------------------------------------------------

void Directory::Impl::begin() {
  if (running) return;
  running = true;
  if (rendezvous != nullptr) {
    const std::weak_ptr<Impl> weak = weak_from_this();
    Rendezvous::Listener listener;
    listener.on_peers = [weak](const RendezvousKey&, const std::vector<std::string>& addresses) {
      if (const auto self = weak.lock()) self->found_peers(addresses);
    };
    listener.on_item = [weak](const DhtItem& item) {
      if (const auto self = weak.lock()) self->found_item(item);
    };
    listener.on_stored = [weak](const DhtItem& item, int copies) {
      const auto self = weak.lock();
      if (!self || !self->own || copies == 0) return;
      if (item.sequence >= self->own->last.record.sequence) self->stored.set();
    };
    rendezvous->listen(std::move(listener));
  }
  net::spawn(clock.executor(), "directory", run(shared_from_this()));
}

net::Task<void> Directory::Impl::run(std::shared_ptr<Impl> self) {
  Duration pause = kFirstPause;
  while (!self->closed) {
    self->next_round.reset();
    self->round();
    pause = std::min<Duration>(pause * 2, self->half_period());
    co_await self->next_round.wait(self->clock.now() + pause);
  }
}

void Directory::Impl::round() {
  if (table.expire(options.unix_ms(), clock.now())) changed();
  std::erase_if(failures, [now = clock.now()](const auto& failure) {
    return failure.second.until + kMaxBackoff < now;
  });
  if (own && !own->left) {
    renew_own(false);
    announce_own();
  }
  look_for_nodes();
  look_up_items();
  for (const std::string& contact : contacts) want(contact);
  for (const auto& [address, connection] : neighbours) want(address);
  want_neighbours();
  log(LogLevel::debug, "discovery",
      "round " + std::to_string(rounds) + ": " + std::to_string(table.size()) + " records, " +
          std::to_string(neighbours.size()) + " neighbours, " + std::to_string(waiting.size()) +
          " addresses to ask");
  ++rounds;
}

// --- this node -------------------------------------------------------------------------------

void Directory::Impl::renew_own(bool leaving) {
  const std::int64_t now = options.unix_ms();
  NodeRecord record = leaving ? own->last.record : own->describe();
  record.mesh = options.mesh;
  record.leaving = leaving;
  // Time is a number that grows over restarts too, without a file to keep it in.
  record.sequence = std::max(now, own->last.record.sequence + 1);
  if (const RecordPtr known = table.find(own->key.id())) {
    record.sequence = std::max(record.sequence, known->record.sequence + 1);
  }
  record.not_before_ms = now;
  record.expires_ms = now + 2 * options.refresh.count();
  Result<SignedRecord> signed_record = sign_record(std::move(record), own->key);
  if (!signed_record) {
    log(LogLevel::error, "discovery", signed_record.error().to_string());
    return;
  }
  own->last = *std::move(signed_record);
  take(own->last.bytes);
  if (rendezvous != nullptr) {
    rendezvous->put(make_item(own->key, own->last.record.sequence, own->last.item()));
  }
}

void Directory::Impl::announce_own() {
  if (rendezvous == nullptr) return;
  const bool due = own->announced == TimePoint{} ||
                   own->announced + kAnnounceEvery <= clock.now() || rounds < kEagerRounds;
  const NodeRecord& record = own->last.record;
  if (!due || record.model_hash == ModelHash{}) return;
  own->announced = clock.now();
  // A head without layers is found where the first layers are.
  const std::uint32_t first = record.span.begin / kLayersPerBucket;
  const std::uint32_t last = record.span.empty() ? first : (record.span.end - 1) / kLayersPerBucket;
  for (std::uint32_t bucket = first; bucket <= last; ++bucket) {
    rendezvous->announce(rendezvous_key(options.mesh, record.model_hash, bucket), own->port);
  }
}

// --- the DHT ---------------------------------------------------------------------------------

void Directory::Impl::look_for_nodes() {
  if (rendezvous == nullptr || options.num_layers == 0) return;
  for (std::uint32_t layer = 0; layer < options.num_layers; layer += kLayersPerBucket) {
    rendezvous->find(rendezvous_key(options.mesh, options.model_hash, layer / kLayersPerBucket));
  }
}

/// Those whose records end soon and were not renewed by anybody who was asked.
void Directory::Impl::look_up_items() {
  if (rendezvous == nullptr) return;
  // A record is renewed every half period and lives for four halves: in its last two and a half
  // it is late.
  const std::int64_t soon = options.unix_ms() + options.refresh.count() * 5 / 4;
  std::deque<identity::PublicKey> keys;
  for (const NodeId& id : table.ending(soon, options.max_items_per_round)) {
    const RecordPtr held = table.find(id);
    if (held && !is_own(id)) keys.push_back(held->record.key);
  }
  const bool pacing = !late.empty();
  late = std::move(keys);
  if (!pacing) look_up_some();
}

void Directory::Impl::look_up_some() {
  for (std::size_t i = 0; i < kLookupsAtOnce && !late.empty(); ++i) {
    rendezvous->get(late.front());
    late.pop_front();
  }
  if (late.empty()) return;
  clock.call_at(clock.now() + kLookupPause, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && !self->closed) self->look_up_some();
  });
}

void Directory::Impl::found_peers(const std::vector<std::string>& addresses) {
  log(LogLevel::debug, "discovery", std::to_string(addresses.size()) + " addresses in the DHT");
  for (const std::string& address : addresses) {
    if (!knows(address)) want(address);
  }
}

/// Whether a record tells of the address already: then its node is asked when it is its turn.
bool Directory::Impl::knows(const std::string& address) const {
  const std::vector<RecordPtr> records = table.usable();
  return std::any_of(records.begin(), records.end(), [&](const RecordPtr& one) {
    const auto& addresses = one->record.addresses;
    return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
  });
}

void Directory::Impl::found_item(const DhtItem& item) {
  if (!verify_item(item)) {
    ++stats.forged_items;
    return;
  }
  const NodeId id = identity::node_id_of(item.key);
  take(item.value, &id);
}

// --- asking ----------------------------------------------------------------------------------

void Directory::Impl::want(const std::string& address) {
  if (closed || waiting.size() >= options.max_waiting || asking.contains(address)) return;
  if (std::find(waiting.begin(), waiting.end(), address) != waiting.end()) return;
  const auto failed = failures.find(address);
  if (failed != failures.end() && clock.now() < failed->second.until) return;
  waiting.push_back(address);
  pump();
}

/// Nodes of the view are asked too, each time others: what one knows, all come to know.
void Directory::Impl::want_neighbours() {
  std::vector<RecordPtr> records = table.usable();
  std::shuffle(records.begin(), records.end(), random);
  std::size_t more = options.max_neighbours - std::min(options.max_neighbours, neighbours.size());
  more = std::max<std::size_t>(more, 1);
  for (const RecordPtr& one : records) {
    if (more == 0) return;
    const std::string address = dial_address(one->record);
    if (is_own(one->record.id) || address.empty() || neighbours.contains(address)) continue;
    want(address);
    --more;
  }
}

void Directory::Impl::pump() {
  while (asking.size() < options.max_asked_at_once && !waiting.empty()) {
    const std::string address = std::move(waiting.front());
    waiting.pop_front();
    asking.insert(address);
    net::spawn(clock.executor(), "directory ask", ask(shared_from_this(), address));
  }
}

net::Task<Result<std::shared_ptr<Connection>>> Directory::Impl::connect(
    const std::string& address) {
  const std::weak_ptr<Impl> weak = weak_from_this();
  Connection::Identity identity;
  identity.hello = [hello = options.hello] { return hello; };
  Connection::FrameHandler on_frame = [weak](const ConnectionPtr& from, Frame frame) {
    const auto self = weak.lock();
    if (self && frame.verb == Verb::swarm && !frame.reply) return self->answer(from, frame);
    from->fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " sent to a directory"});
  };
  Connection::CloseHandler on_close = [weak, address](const ConnectionPtr& from, const Error&) {
    if (const auto self = weak.lock()) self->connection_ended(address, from);
  };
  return Connection::connect(transport, address, std::move(identity), std::move(on_frame),
                             std::move(on_close), clock.now() + options.dial_timeout,
                             options.connection);
}

net::Task<void> Directory::Impl::ask(std::shared_ptr<Impl> self, std::string address) {
  ++self->stats.asked;
  const auto held = self->neighbours.find(address);
  Result<ConnectionPtr> connection = ConnectionPtr();
  if (held != self->neighbours.end() && held->second->is_open()) {
    connection = held->second;
  } else {
    auto connecting = self->connect(address);
    connection = co_await std::move(connecting);
  }
  Result<void> told = connection ? Result<void>() : Result<void>(connection.error());
  if (connection) {
    auto asking = ask_pages(self, *connection);
    told = co_await std::move(asking);
  }
  self->asking.erase(address);
  if (self->closed) co_return;
  const bool serves_none = !told && told.error().code == Errc::unsupported;
  if (!told && !serves_none) {
    if (connection) (*connection)->close();
    self->neighbours.erase(address);
    self->contact_failed(address, told.error());
  } else {
    self->failures.erase(address);
    if (!serves_none && self->wants_to_keep(address, **connection)) {
      self->neighbours[address] = *connection;
    } else {
      (*connection)->close();
    }
  }
  self->pump();
}

net::Task<Result<void>> Directory::Impl::ask_pages(std::shared_ptr<Impl> self,
                                                   ConnectionPtr connection) {
  wire::Swarm query;
  query.mesh = self->options.mesh;
  query.model_hash = self->options.model_hash;
  for (int page = 0; page < kMaxPages; ++page) {
    query.own = self->own ? self->own->last.bytes : std::string();
    const TimePoint deadline = self->clock.now() + self->options.dial_timeout;
    auto calling = connection->call(Verb::swarm, wire::encode(query), {}, deadline);
    const Result<Frame> answer = co_await std::move(calling);
    if (!answer) co_return answer.error();
    const Result<wire::SwarmReply> reply = wire::decode<wire::SwarmReply>(answer->header);
    if (!reply) {
      connection->fail(reply.error());
      co_return reply.error();
    }
    if (self->closed) co_return Error{Errc::closed, "the directory is gone"};
    for (const std::string& record : reply->records) self->take(record);
    if (!reply->more || reply->records.empty()) break;
    // The answer is sorted, so that the last record says where it went on; a record that is not
    // believed cannot, and then the next round will see.
    const auto last = check_record(reply->records.back(),
                                   {self->options.mesh, self->options.unix_ms(), {}, {}, 0});
    const auto* good = std::get_if<SignedRecord>(&last);
    if (good == nullptr || good->record.id <= query.after) break;
    query.after = good->record.id;
  }
  co_return Result<void>();
}

bool Directory::Impl::wants_to_keep(const std::string& address,
                                    const Connection& connection) const {
  if (!connection.is_open()) return false;
  if (neighbours.contains(address)) return true;
  // A node has several addresses, and this node's own are found in the DHT too.
  const NodeId& id = connection.remote().node_id;
  const bool has_one = std::any_of(neighbours.begin(), neighbours.end(), [&](const auto& one) {
    return one.second->remote().node_id == id;
  });
  return !has_one && !is_own(id) && neighbours.size() < options.max_neighbours;
}

void Directory::Impl::contact_failed(const std::string& address, const Error& error) {
  ++stats.unreachable;
  log(LogLevel::debug, "discovery", address + ": " + error.to_string());
  if (failures.size() < kMaxRemembered || failures.contains(address)) {
    Failure& failure = failures[address];
    const int doublings = std::min(failure.count++, 8);
    failure.until = clock.now() + std::min<Duration>(kFirstBackoff * (1 << doublings), kMaxBackoff);
  }
  for (const RecordPtr& one : table.usable()) {
    const auto& addresses = one->record.addresses;
    const bool its = dial_address(one->record) == address ||
                     std::find(addresses.begin(), addresses.end(), address) != addresses.end();
    if (its && !is_own(one->record.id) && table.hide(one->record.id, options.unix_ms())) changed();
  }
}

/// A neighbour that ends a connection may have no room for it, or may have died: asked at once.
void Directory::Impl::connection_ended(const std::string& address,
                                       const ConnectionPtr& connection) {
  const auto held = neighbours.find(address);
  if (closed || held == neighbours.end() || held->second != connection) return;
  neighbours.erase(held);
  want(address);
}

RecordTable::Outcome Directory::Impl::take(std::string_view bytes, const NodeId* must_be) {
  const auto outcome = table.take(bytes, options.unix_ms(), clock.now(), must_be);
  if (outcome == RecordTable::Outcome::taken) changed();
  return outcome;
}

void Directory::Impl::changed() {
  if (change_posted || !on_change) return;
  change_posted = true;
  asio::post(clock.executor(), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->closed) return;
    self->change_posted = false;
    if (self->on_change) self->on_change();
  });
}

// --- answering -------------------------------------------------------------------------------

bool Directory::Impl::within_rate() {
  const TimePoint now = clock.now();
  const double seconds = std::chrono::duration<double>(now - allowed_at).count();
  allowance =
      allowed_at == TimePoint{}
          ? options.answers_per_second
          : std::min(options.answers_per_second, allowance + seconds * options.answers_per_second);
  allowed_at = now;
  if (allowance < 1) return false;
  allowance -= 1;
  return true;
}

Result<wire::SwarmReply> Directory::Impl::reply_to(const NodeId& asker, const wire::Swarm& query) {
  if (query.mesh != options.mesh) {
    return {Errc::invalid_argument, "this node is not of the mesh " + query.mesh.substr(0, 64)};
  }
  if (!within_rate()) {
    ++stats.refused;
    return {Errc::busy, "too many ask for records"};
  }
  if (!query.own.empty()) take(query.own, &asker);
  wire::SwarmReply reply;
  const bool first_page = is_unknown(query.after);
  if (own && first_page) reply.records.push_back(own->last.bytes);
  const auto page = table.page({query.model_hash, query.layers, query.after},
                               wire::kMaxSwarmRecords - 1, wire::kMaxSwarmBytes);
  for (const RecordPtr& one : page.records) {
    if (!is_own(one->record.id)) reply.records.push_back(one->bytes);
  }
  reply.more = page.more;
  ++stats.answered;
  return reply;
}

void Directory::Impl::answer(const ConnectionPtr& connection, const Frame& request) {
  const Result<wire::Swarm> query = wire::decode<wire::Swarm>(request.header);
  if (!query) return connection->fail(query.error());
  const Result<wire::SwarmReply> reply = reply_to(connection->remote().node_id, *query);
  const Result<void> sent = reply ? connection->reply(request, Verb::swarm, wire::encode(*reply))
                                  : connection->reply_error(request, reply.error());
  static_cast<void>(sent);  // whoever asked has gone, or asks again
}

// --- the class -------------------------------------------------------------------------------

Directory::Directory(net::Transport& transport, Rendezvous* rendezvous, DirectoryOptions options)
    : impl_(std::make_shared<Impl>(transport, rendezvous, std::move(options))) {}

Directory::~Directory() {
  impl_->closed = true;
  if (impl_->rendezvous != nullptr) impl_->rendezvous->listen({});
  impl_->next_round.set();
  impl_->waiting.clear();
  for (const auto& [address, connection] : std::exchange(impl_->neighbours, {})) {
    connection->close();
  }
}

void Directory::add_contact(const std::string& address) {
  impl_->contacts.push_back(address);
  if (impl_->running) impl_->want(address);
}

void Directory::publish(identity::NodeKey key, std::uint16_t port,
                        std::function<NodeRecord()> describe) {
  impl_->own.emplace(Impl::Own{std::move(key), port, std::move(describe)});
  if (impl_->running) renew();
}

void Directory::start() { impl_->begin(); }

void Directory::renew() {
  impl_->rounds = 0;
  impl_->next_round.set();
}

net::Task<void> Directory::leave(TimePoint deadline) {
  const std::shared_ptr<Impl> impl = impl_;
  if (!impl->own || impl->own->left) co_return;
  impl->own->left = true;
  impl->stored.reset();
  impl->renew_own(true);
  wire::Swarm query;
  query.mesh = impl->options.mesh;
  query.own = impl->own->last.bytes;
  query.after.fill(0xff);  // nothing is wanted back
  for (const auto& [address, connection] : impl->neighbours) {
    Frame frame;
    frame.verb = Verb::swarm;
    frame.header = wire::encode(query);
    static_cast<void>(connection->push(std::move(frame)));  // a courtesy
  }
  if (impl->rendezvous != nullptr) co_await impl->stored.wait(deadline);
}

void Directory::on_change(std::function<void()> fn) { impl_->on_change = std::move(fn); }

std::vector<RecordPtr> Directory::view() const {
  std::vector<RecordPtr> records = impl_->table.usable();
  std::erase_if(records, [this](const RecordPtr& one) { return impl_->is_own(one->record.id); });
  return records;
}

RecordPtr Directory::find(const NodeId& id) const { return impl_->table.find(id); }

void Directory::report_unreachable(const NodeId& id) {
  if (!impl_->is_own(id) && impl_->table.hide(id, impl_->options.unix_ms())) impl_->changed();
}

void Directory::answer(const std::shared_ptr<net::Connection>& connection,
                       const wire::Frame& request) {
  impl_->answer(connection, request);
}

DirectoryStats Directory::stats() const {
  DirectoryStats stats = impl_->stats;
  stats.records = impl_->table.counts();
  stats.held = impl_->table.size();
  stats.neighbours = impl_->neighbours.size();
  return stats;
}

}  // namespace farmesh::discovery
