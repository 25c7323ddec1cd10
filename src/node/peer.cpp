// The public Peer: a stage behind a listening address, and the generation loop for clients
// without a head where one is hosted.
#include "serve/peer.hpp"

#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include <farmesh/peer.hpp>

#include "base/digest.hpp"
#include "client/process_guard.hpp"
#include "model/model_hash.hpp"
#include "net/runtime.hpp"
#include "net/tcp_address.hpp"
#include "node/generate_service.hpp"
#include "node/hello.hpp"
#include "node/mesh.hpp"
#include "node/model_text.hpp"
#include "node/own_identity.hpp"
#include "node/stage.hpp"

namespace farmesh {
namespace {

constexpr std::chrono::milliseconds kLeaveTime{500};  // for the DHT to learn of it

// What lives on the network thread, and the thread itself.
class ServingNode {
 public:
  ServingNode(PeerOptions options, node::OwnIdentity self)
      : options_(std::move(options)),
        self_(std::move(self)),
        runtime_(self_.credentials),
        node_id_(to_string(self_.credentials.key.id())),
        model_id_(options_.model_id.empty() ? node::display_name(options_.folder)
                                            : options_.model_id),
        public_key_(to_hex(self_.credentials.key.public_key())) {}
  ~ServingNode() { stop(std::chrono::milliseconds(0)); }
  ServingNode(const ServingNode&) = delete;
  ServingNode& operator=(const ServingNode&) = delete;

  Result<void> start();
  void stop(std::chrono::milliseconds drain);
  void wait();
  PeerStats stats();
  Result<void> carry_wallet_statement(std::string text);

  const std::string& address() const noexcept { return address_; }
  const std::string& node_id() const noexcept { return node_id_; }
  const std::string& public_key() const noexcept { return public_key_; }
  const identity::NodeKey& key() const noexcept { return self_.credentials.key; }
  const std::string& model_id() const noexcept { return model_id_; }
  const std::string& numerics_class() const noexcept { return numerics_class_; }
  const std::string& model_hash() const noexcept { return model_hash_; }
  std::uint32_t num_layers() const noexcept { return stage_.config.num_layers; }

 private:
  Result<void> listen();
  Result<void> join_mesh();
  discovery::NodeRecord describe();
  void use_found_peers();
  std::unique_ptr<node::GenerateService> make_service();

  const PeerOptions options_;
  const node::OwnIdentity self_;
  mutable net::Runtime runtime_;
  const std::string node_id_;
  const std::string model_id_;
  const std::string public_key_;
  node::Stage stage_;
  std::unique_ptr<node::GenerateService> service_;
  std::unique_ptr<serve::Peer> peer_;
  std::unique_ptr<node::Mesh> mesh_;  // where discovery is enabled
  std::set<std::string> found_;       // peers that the head was told of
  std::string wallet_statement_;
  std::string address_;
  std::string numerics_class_;
  std::string model_hash_;

  std::mutex mutex_;
  std::condition_variable changed_;
  enum class State { running, stopping, stopped } state_ = State::running;
};

Result<void> ServingNode::start() {
  if (options_.place.size() > discovery::kMaxNameBytes) {
    return {Errc::invalid_argument, "the name of the place is too long"};
  }
  node::StageOptions stage;
  stage.folder = options_.folder;
  stage.layers = options_.layers;
  stage.head = options_.head;
  stage.precision = options_.precision;
  stage.threads = options_.threads;
  stage.cache_tokens = options_.cache_tokens;
  stage.on_loading = options_.on_loading;
  Result<node::Stage> loaded = node::load_stage(stage, runtime_);
  if (!loaded) return loaded.error();
  stage_ = *std::move(loaded);
  numerics_class_ = stage_.worker->info().numerics_class;
  model_hash_ = model::to_hex(stage_.hash);

  Result<void> listening;
  runtime_.run_blocking([this, &listening] { listening = listen(); });
  if (!listening || !options_.discovery.enabled()) return listening;
  return join_mesh();
}

Result<void> ServingNode::join_mesh() {
  const std::string dialled = options_.advertise.empty() ? address_ : options_.advertise;
  const Result<net::HostPort> parsed = net::parse_address(dialled);
  if (!parsed) return parsed.error();
  if (parsed->host == "0.0.0.0" || parsed->host == "::") {
    return {Errc::config_invalid,
            "who listens on every address must advertise the one where others dial it"};
  }
  discovery::DirectoryOptions directory;
  directory.model_hash = stage_.hash;
  directory.num_layers = stage_.config.num_layers;
  directory.hello = node::client_hello(runtime_.node_id());
  auto joined =
      node::Mesh::join(runtime_, self_, options_.discovery, std::move(directory), options_.listen);
  if (!joined) return joined.error();
  runtime_.run_blocking([this, &joined, port = parsed->port] {
    mesh_ = *std::move(joined);
    mesh_->directory().on_change([this] { use_found_peers(); });
    mesh_->directory().publish(self_.credentials.key, port, [this] { return describe(); });
    mesh_->directory().start();
  });
  return {};
}

discovery::NodeRecord ServingNode::describe() {
  const model::EngineInfo& info = stage_.worker->info();
  const wire::Pong load = stage_.worker->load();
  discovery::NodeRecord record;
  record.addresses = {options_.advertise.empty() ? address_ : options_.advertise};
  record.software = node::software_name();
  record.model_id = model_id_;
  record.model_hash = stage_.hash;
  record.numerics_class = info.numerics_class;
  record.num_layers = stage_.config.num_layers;
  record.span = options_.layers;
  record.head = options_.head;
  record.queued_rows = load.queued_rows;
  record.free_tokens = load.free_pages * info.page_tokens;
  record.sessions = load.sessions;
  record.layer_us = stage_.speed->layer_us();
  record.place = options_.place;
  record.wallet_statement.assign(wallet_statement_.begin(), wallet_statement_.end());
  return record;
}

void ServingNode::use_found_peers() {
  if (!service_) return;
  for (const discovery::RecordPtr& one : mesh_->directory().view()) {
    const std::string address = discovery::dial_address(one->record);
    if (address.empty()) continue;
    if (found_.insert(address).second) service_->add_peer(address);
    service_->report_claims(address, node::claims_of(one->record));
  }
}

Result<void> ServingNode::listen() {
  serve::PeerOptions peer;
  peer.node_id = runtime_.node_id();
  peer.software = node::software_name();
  peer.advertised_address = options_.advertise;
  peer.model_id = model_id_;
  peer.model_hash = stage_.hash;
  peer.num_layers = stage_.config.num_layers;
  peer.shares = {options_.max_remote_sessions, options_.max_remote_tokens};
  peer.meter.key = self_.credentials.key;
  peer.meter.demands_grants = options_.paid;
  for (const std::string& text : options_.payers) {
    const Result<NodeId> payer = parse_node_id(text);
    if (!payer) return Error{Errc::config_invalid, "payers: " + payer.error().detail};
    peer.meter.payers.push_back(*payer);
  }
  if (options_.discovery.enabled()) {
    peer.on_swarm = [this](const auto& connection, const wire::Frame& request) {
      if (mesh_) return mesh_->directory().answer(connection, request);
      static_cast<void>(connection->reply_error(request, {Errc::busy, "not in the mesh yet"}));
    };
  }
  if (options_.head) service_ = make_service();
  peer_ = std::make_unique<serve::Peer>(runtime_.tcp(), *stage_.worker, std::move(peer),
                                        service_.get());
  Result<std::string> address = peer_->listen(options_.listen);
  if (!address) return address.error();
  address_ = *std::move(address);
  if (service_ && !options_.layers.empty()) {
    // The loop reaches the layers of this node as it reaches all others.
    service_->add_peer(options_.advertise.empty() ? address_ : options_.advertise);
  }
  return {};
}

std::unique_ptr<node::GenerateService> ServingNode::make_service() {
  client::SharedModel model;
  model.runtime = &runtime_;
  model.head = stage_.worker.get();
  model.num_layers = stage_.config.num_layers;
  model.hidden_size = stage_.config.hidden_size;
  model.vocab_size = stage_.config.vocab_size;
  model.context_tokens = stage_.config.max_position;
  model.page_tokens = stage_.worker->info().page_tokens;
  model.residual = stage_.worker->info().residual;
  model.prefix_key.resize(32);
  random_bytes(model.prefix_key);

  driver::PeerSetOptions set;
  set.hello = node::client_hello(runtime_.node_id());
  set.model_hash = stage_.hash;
  set.numerics_class = stage_.worker->info().numerics_class;
  set.on_unreachable = [this](const std::string& address) {
    if (mesh_) mesh_->report_unreachable(address);
  };
  return std::make_unique<node::GenerateService>(runtime_, *stage_.worker, std::move(model),
                                                 std::move(set), options_.peers);
}

void ServingNode::stop(std::chrono::milliseconds drain) {
  {
    std::unique_lock lock(mutex_);
    if (state_ != State::running) {
      changed_.wait(lock, [this] { return state_ == State::stopped; });
      return;
    }
    state_ = State::stopping;
  }
  if (mesh_) {  // first, so that new sessions go elsewhere while the open ones end
    std::function<net::Task<void>()> leave = [this] {
      return mesh_->directory().leave(runtime_.clock().now() + kLeaveTime);
    };
    runtime_.await_blocking<void>(std::move(leave));
  }
  if (peer_) {
    const TimePoint deadline = runtime_.clock().now() + drain;
    std::function<net::Task<void>()> end = [this, deadline] { return peer_->drain(deadline); };
    runtime_.await_blocking<void>(std::move(end));
  }
  if (service_) {
    std::function<net::Task<void>()> close = [this] { return service_->close_all(); };
    runtime_.await_blocking<void>(std::move(close));
  }
  runtime_.run_blocking([this] {
    peer_.reset();
    mesh_.reset();
    service_.reset();
    stage_.worker.reset();
  });
  {
    const std::lock_guard lock(mutex_);
    state_ = State::stopped;
  }
  changed_.notify_all();
}

void ServingNode::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return state_ == State::stopped; });
}

Result<void> ServingNode::carry_wallet_statement(std::string text) {
  if (text.size() > discovery::kMaxStatementBytes) {
    return {Errc::invalid_argument, "the wallet statement is too long"};
  }
  runtime_.run_blocking([this, &text] {
    wallet_statement_ = std::move(text);
    if (mesh_) mesh_->directory().renew();
  });
  return {};
}

PeerStats ServingNode::stats() {
  PeerStats stats;
  runtime_.run_blocking([this, &stats] {
    if (!peer_) return;
    const serve::PeerStats served = peer_->stats();
    stats.steps = served.steps;
    stats.rows = served.rows;
    stats.forwarded_bytes = served.forwarded_bytes;
    stats.sessions = served.sessions;
    stats.connections = served.connections;
    stats.weight_bytes = stage_.worker->info().weight_bytes;
    const wire::Pong load = stage_.worker->load();
    stats.queued_rows = load.queued_rows;
    stats.free_tokens = load.free_pages * stage_.worker->info().page_tokens;
    stats.layer_us = stage_.speed->layer_us();
  });
  return stats;
}

}  // namespace

struct Peer::Impl {
  client::ProcessGuard guard;
  std::unique_ptr<ServingNode> node;

  ~Impl() {
    // In a forked child the threads are missing: the object is left to the process's end.
    if (guard.forked()) (void)node.release();
  }
};

Peer::Peer(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Peer::Peer(Peer&&) noexcept = default;
Peer& Peer::operator=(Peer&&) noexcept = default;
Peer::~Peer() = default;

Result<Peer> Peer::start(PeerOptions options) {
  Result<node::OwnIdentity> self = node::own_identity(options.identity);
  if (!self) return self.error();
  auto impl = std::make_unique<Impl>();
  impl->node = std::make_unique<ServingNode>(std::move(options), *std::move(self));
  if (const Result<void> started = impl->node->start(); !started) return started.error();
  return Peer(std::move(impl));
}

const std::string& Peer::address() const noexcept { return impl_->node->address(); }
const std::string& Peer::node_id() const noexcept { return impl_->node->node_id(); }
const std::string& Peer::public_key() const noexcept { return impl_->node->public_key(); }
std::uint32_t Peer::num_layers() const noexcept { return impl_->node->num_layers(); }
const std::string& Peer::model_id() const noexcept { return impl_->node->model_id(); }
const std::string& Peer::numerics_class() const noexcept { return impl_->node->numerics_class(); }
const std::string& Peer::model_hash() const noexcept { return impl_->node->model_hash(); }

void Peer::wait() {
  if (!impl_->guard.forked()) impl_->node->wait();
}

void Peer::stop(std::chrono::milliseconds drain) {
  if (!impl_->guard.forked()) impl_->node->stop(drain);
}

PeerStats Peer::stats() const {
  if (impl_->guard.forked()) return {};
  return impl_->node->stats();
}

Result<void> Peer::carry_wallet_statement(std::string text) {
  if (impl_->guard.forked()) return {Errc::unsupported, "not after fork()"};
  return impl_->node->carry_wallet_statement(std::move(text));
}

Result<std::string> Peer::sign(std::string_view domain, std::string_view message) const {
  if (!identity::is_domain(domain)) {
    return {Errc::invalid_argument, "a domain begins with \"farmesh \" and has 64 characters"};
  }
  return to_hex(impl_->node->key().sign(domain, as_view(message)));
}

}  // namespace farmesh
