#include "node/generate_service.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/digest.hpp"
#include "client/local_runner.hpp"
#include "wire/messages.hpp"

namespace farmesh::node {
namespace {

// A client that does not read its tokens keeps its turn waiting, not this node's memory.
constexpr std::size_t kMaxUnsentBytes = 256u << 10;
constexpr std::chrono::milliseconds kLookAgain{20};

Result<std::vector<TokenId>> ids_of(const wire::Frame& request, const wire::Generate& message) {
  const Result<void> shape =
      wire::check_tensor(request.payload, message.prompt_tokens, 1, DType::u32);
  if (!shape) return shape.error();
  std::vector<TokenId> ids(message.prompt_tokens);
  if (!ids.empty()) std::memcpy(ids.data(), request.payload.view().data(), request.payload.size());
  return ids;
}

void push_error(net::Connection& client, std::uint32_t stream, const SessionId& session,
                const Error& error) {
  wire::ErrorMessage message;
  message.code = error.code;
  message.number = std::uint16_t(error.code);
  message.detail = error.detail.substr(0, wire::kMaxTextField);
  message.about_session = true;
  message.session = session;
  // A client that has gone needs no answer.
  (void)client.push({.verb = wire::Verb::error,
                     .reply = true,
                     .stream = stream,
                     .header = wire::encode(message)});
}

Result<void> push_token(net::Connection& client, std::uint32_t stream,
                        const wire::TokenMessage& message) {
  return client.push({.verb = wire::Verb::token,
                      .reply = true,
                      .stream = stream,
                      .header = wire::encode(message)});
}

}  // namespace

struct GenerateService::Served {
  SessionId id;
  std::shared_ptr<net::Connection> client;
  client::SharedModel model;  // the service's, with this session's peers
  std::shared_ptr<driver::PeerSet> peers;
  std::optional<client::LocalRunner> runner;
  bool running = false;
  bool closed = false;
  net::TimerId look_again = 0;
};

GenerateService::GenerateService(net::Runtime& runtime, wire::Head& head, client::SharedModel model,
                                 driver::PeerSetOptions set_options, std::vector<std::string> peers)
    : runtime_(runtime),
      head_(head),
      model_(std::move(model)),
      set_options_(std::move(set_options)),
      own_peers_(std::move(peers)),
      idle_(runtime.clock()) {
  idle_.set();
}

GenerateService::~GenerateService() = default;

void GenerateService::serve_own(std::string address) {
  own_address_ = std::move(address);
  if (own_address_.empty()) return;
  for (const auto& [addresses, weak] : peer_sets_) {
    if (const auto peers = weak.lock()) peers->add(own_address_);
  }
}

void GenerateService::find_peers(std::vector<std::string> addresses,
                                 std::map<std::string, driver::PeerClaims> claims) {
  found_peers_ = std::move(addresses);
  claims_ = std::move(claims);
  for (const auto& [known, weak] : peer_sets_) {
    const auto peers = weak.lock();
    if (!peers) continue;
    for (const auto& [address, claim] : claims_) peers->report_claims(address, claim);
  }
}

void GenerateService::start(std::shared_ptr<net::Connection> client, wire::Frame request,
                            wire::Generate message) {
  Result<std::vector<TokenId>> ids = ids_of(request, message);
  const Result<std::shared_ptr<Served>> served =
      ids ? admit(client, message) : Result<std::shared_ptr<Served>>(ids.error());
  if (!served) {
    push_error(*client, request.stream, message.session, served.error());
    return;
  }
  client::TurnInput input;
  input.ids = *std::move(ids);
  input.emitted = message.emitted_tokens;
  input.max_tokens = message.max_tokens;
  input.sampling = std::move(message.sampling);
  input.stop_tokens = std::move(message.stop_tokens);
  input.max_draft = message.max_draft;
  (*served)->running = true;
  ++running_;
  idle_.reset();
  net::spawn(runtime_.executor(), "node generate", run(*served, request.stream, std::move(input)));
}

Result<std::shared_ptr<GenerateService::Served>> GenerateService::admit(
    const std::shared_ptr<net::Connection>& client, const wire::Generate& message) {
  if (const auto known = sessions_.find(message.session); known != sessions_.end()) {
    if (known->second->running) return {Errc::busy, "the session still runs a turn"};
    return known->second;
  }
  if (sessions_.size() >= kMaxServedSessions) {
    return {Errc::busy, "this head runs as many sessions as it may"};
  }
  auto served = std::make_shared<Served>();
  served->id = message.session;
  served->client = client;
  served->peers = peers_for(message.peers);
  served->model = model_;
  served->model.peers = served->peers.get();
  // Cached prefixes are a client's own.
  const auto tenant = hmac_sha256(std::as_bytes(std::span(model_.prefix_key)),
                                  std::as_bytes(std::span(client->remote().node_id)));
  served->model.prefix_key.assign(tenant.begin(), tenant.end());
  // The runner lies inside what it refers to, and is asked only while that is alive.
  served->runner.emplace(
      served->model, head_, model_.context_tokens,
      [this, raw = served.get()] { return has_room(*raw); },
      client::RouteWishes{message.warm_standby, message.activations});
  sessions_.emplace(message.session, served);
  return served;
}

std::shared_ptr<driver::PeerSet> GenerateService::peers_for(const std::vector<std::string>& more) {
  std::vector<std::string> all = own_peers_;
  if (!own_address_.empty()) all.push_back(own_address_);
  all.insert(all.end(), found_peers_.begin(), found_peers_.end());
  all.insert(all.end(), more.begin(), more.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());

  std::erase_if(peer_sets_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<driver::PeerSet>& slot = peer_sets_[all];
  std::shared_ptr<driver::PeerSet> peers = slot.lock();
  if (!peers) {
    peers = std::make_shared<driver::PeerSet>(runtime_.tcp(), set_options_);
    for (const std::string& address : all) peers->add(address);
    for (const auto& [address, claims] : claims_) peers->report_claims(address, claims);
    slot = peers;
  }
  return peers;
}

bool GenerateService::has_room(Served& served) {
  if (served.closed || served.client->queued_bytes() < kMaxUnsentBytes) return true;
  if (served.look_again == 0) {
    net::Clock& clock = runtime_.clock();
    const auto look = [this, id = served.id] {
      const auto known = sessions_.find(id);
      if (known == sessions_.end()) return;
      known->second->look_again = 0;
      known->second->runner->poke();
    };
    served.look_again = clock.call_at(clock.now() + kLookAgain, look);
  }
  return false;
}

net::Task<void> GenerateService::run(std::shared_ptr<Served> served, std::uint32_t stream,
                                     client::TurnInput input) {
  co_await served->peers->connect_all(runtime_.clock().now() + set_options_.dial_timeout);

  driver::OnToken on_token = [served, stream](const wire::TokenMessage& token) {
    wire::TokenMessage named = token;
    named.session = served->id;
    return !served->closed && push_token(*served->client, stream, named).has_value();
  };
  Result<wire::Finish> finish = wire::Finish::cancelled;
  if (!served->closed) finish = co_await served->runner->run(std::move(input), std::move(on_token));

  if (!served->closed) {
    if (finish) {
      wire::TokenMessage end;
      end.session = served->id;
      end.finish = *finish;
      end.has_token = false;
      (void)push_token(*served->client, stream, end);
    } else {
      push_error(*served->client, stream, served->id, finish.error());
    }
  }
  served->running = false;
  if (--running_ == 0) idle_.set();
}

void GenerateService::cancel(const SessionId& session) {
  const auto known = sessions_.find(session);
  if (known == sessions_.end()) return;
  const std::shared_ptr<Served> served = std::move(known->second);
  sessions_.erase(known);
  served->closed = true;
  runtime_.clock().cancel(served->look_again);
  served->runner->cancel();
  served->runner->poke();
}

net::Task<void> GenerateService::close_all() {
  while (!sessions_.empty()) cancel(SessionId(sessions_.begin()->first));
  co_await idle_.wait(TimePoint::max());
}

}  // namespace farmesh::node
