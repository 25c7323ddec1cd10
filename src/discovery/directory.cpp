#include <algorithm>
#include <utility>

#include <asio/post.hpp>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "discovery/directory_impl.hpp"

namespace farmesh::discovery {
namespace {

using wire::Frame;
using wire::Verb;

constexpr std::chrono::milliseconds kFirstPause{50};  // before the second round; doubles
constexpr std::chrono::seconds kUnhurried{1};         // of such a pause on, a loss starts anew
constexpr int kEagerRounds = 8;                       // that announce: the DHT is young, or changed
// Many lookups at once would overflow the socket's buffer with their answers.
constexpr std::size_t kLookupsAtOnce = 5;
constexpr std::chrono::milliseconds kLookupPause{20};
// After a failed contact: a node that lost its relay has another one soon.
constexpr std::chrono::seconds kLookForMoved[] = {std::chrono::seconds(1), std::chrono::seconds(3),
                                                  std::chrono::seconds(7)};

std::int64_t system_unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// --- rounds ----------------------------------------------------------------------------------

Directory::Impl::Impl(net::Transport& t, Rendezvous* r, DirectoryOptions o)
    : transport(t),
      clock(t.clock()),
      rendezvous(r),
      options(std::move(o)),
      table({options.mesh, options.model_hash, options.num_layers, options.max_records}),
      next_round(clock),
      stored(clock),
      pause(kFirstPause) {
  if (!options.unix_ms) options.unix_ms = system_unix_ms;
  std::array<std::uint8_t, 4> seed;
  random_bytes(seed);
  random.seed(seed[0] | seed[1] << 8 | seed[2] << 16 | static_cast<std::uint32_t>(seed[3]) << 24);
}

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
  while (!self->closed) {
    self->next_round.reset();
    self->round();
    co_await self->next_round.wait(self->clock.now() + self->pause);
    self->pause = std::min<Duration>(self->pause * 2, self->half_period());
  }
}

void Directory::Impl::hurry() {
  pause = kFirstPause / 2;
  rounds = 0;
  next_round.set();
}

/// A neighbour has died, and with it a place that had our announcement: it may have been the last.
void Directory::Impl::lost_neighbour() {
  if (pause >= kUnhurried) hurry();
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
  if (rendezvous != nullptr) rendezvous->rejoin();
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
  if (!leaving && record.addresses.empty() && record.relay.empty()) return;
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
                   own->announced + options.refresh <= clock.now() || rounds < kEagerRounds;
  const NodeRecord& record = own->last.record;
  if (!due || record.model_hash == ModelHash{}) return;
  if (record.addresses.empty()) return;  // the DHT would tell where nobody gets in
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
  std::vector<identity::PublicKey> keys;
  for (const NodeId& id : table.ending(soon, options.max_items_per_round)) {
    const RecordPtr held = table.find(id);
    if (held && !is_own(id)) keys.push_back(held->record.key);
  }
  look_up(keys);
}

void Directory::Impl::look_up(const std::vector<identity::PublicKey>& keys) {
  const bool pacing = !late.empty();
  for (const identity::PublicKey& key : keys) {
    if (std::find(late.begin(), late.end(), key) == late.end()) late.push_back(key);
  }
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

/// Nobody answers at the address any more. The node may be elsewhere, such as behind another relay
/// after its own has died, and have said so: asked for a few times.
void Directory::Impl::hide(const NodeId& id, const std::string& address) {
  if (is_own(id) || !table.hide(id, address, options.unix_ms())) return;
  changed();
  for (const std::chrono::seconds after : kLookForMoved) {
    clock.call_at(clock.now() + after, [weak = weak_from_this(), id] {
      const auto self = weak.lock();
      if (self && !self->closed) self->look_for_moved(id);
    });
  }
}

void Directory::Impl::look_for_moved(const NodeId& id) {
  const RecordPtr held = table.find(id);
  if (!held || table.is_usable(id)) return;
  if (rendezvous != nullptr) look_up({held->record.key});
  for (const auto& [address, connection] : neighbours) want(address);
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

void Directory::renew() { impl_->hurry(); }

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

void Directory::report_unreachable(const NodeId& id, const std::string& address) {
  impl_->hide(id, address);
}

const std::optional<Error>& Directory::refusal() const noexcept { return impl_->refusal; }

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
