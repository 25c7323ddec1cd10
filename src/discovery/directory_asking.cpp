#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "discovery/directory_impl.hpp"

namespace farmesh::discovery {
namespace {

using net::Connection;
using wire::Frame;
using wire::Verb;

constexpr int kMaxPages = 64;                     // taken from one node at a time
constexpr std::chrono::seconds kFirstBackoff{5};  // after a failed contact; doubles
constexpr std::size_t kMaxRemembered = 4'096;     // addresses that failed

}  // namespace

// --- asking ----------------------------------------------------------------------------------

void Directory::Impl::want(const std::string& address) {
  if (closed || waiting.size() >= options.max_waiting || asking.contains(address)) return;
  if (std::find(waiting.begin(), waiting.end(), address) != waiting.end()) return;
  const auto failed = failures.find(address);
  if (failed != failures.end() && clock.now() < failed->second.until) return;
  waiting.push_back(address);
  pump();
}

/// Nodes of the view are asked too, each time others: what one knows, all come to know. Those
/// behind a relay ask for themselves, and its room is for sessions.
void Directory::Impl::want_neighbours() {
  std::vector<RecordPtr> records = table.usable();
  std::shuffle(records.begin(), records.end(), random);
  std::size_t more = options.max_neighbours - std::min(options.max_neighbours, neighbours.size());
  more = std::max<std::size_t>(more, 1);
  for (const RecordPtr& one : records) {
    if (more == 0) return;
    const std::string address = dial_address(one->record);
    if (is_own(one->record.id) || address.empty() || neighbours.contains(address)) continue;
    if (!one->record.relay.empty()) continue;
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
    const bool neighbour = self->neighbours.erase(address) + self->ended.erase(address) > 0;
    self->contact_failed(address, told.error());
    if (neighbour) self->lost_neighbour();
  } else {
    self->failures.erase(address);
    self->ended.erase(address);
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
  if (error.code == Errc::join_refused) {
    if (!refusal) log(LogLevel::warning, "discovery", address + ": " + error.to_string());
    refusal = error;
  }
  for (const RecordPtr& one : table.usable()) {
    if (tells_of(one->record, address)) hide(one->record.id, address);
  }
}

/// A neighbour that ends a connection may have no room for it, or may have died: asked at once.
void Directory::Impl::connection_ended(const std::string& address,
                                       const ConnectionPtr& connection) {
  const auto held = neighbours.find(address);
  if (closed || held == neighbours.end() || held->second != connection) return;
  neighbours.erase(held);
  if (ended.size() < kMaxRemembered) ended.insert(address);
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
  if (own && first_page && !own->last.bytes.empty()) reply.records.push_back(own->last.bytes);
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

}  // namespace farmesh::discovery
