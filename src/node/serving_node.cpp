#include "node/serving_node.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "base/log.hpp"
#include "model/model_hash.hpp"
#include "net/tcp_address.hpp"
#include "node/cache_folder.hpp"
#include "node/hardware.hpp"
#include "node/hello.hpp"
#include "node/model_text.hpp"
#include "node/speed_probe.hpp"
#include "node/step_times.hpp"
#include "node/torrent_peers.hpp"

namespace farmesh::node {
namespace {

constexpr std::chrono::milliseconds kLeaveTime{500};  // for the DHT to learn of it

}  // namespace

ServingNode::ServingNode(PeerOptions options, OwnIdentity self)
    : options_(std::move(options)),
      self_(std::move(self)),
      runtime_(self_.credentials),
      node_id_(to_string(self_.credentials.key.id())),
      model_id_(options_.model_id.empty() ? display_name(options_.folder) : options_.model_id),
      public_key_(to_hex(self_.credentials.key.public_key())),
      precision_(options_.precision) {}

Result<void> ServingNode::start() {
  if (options_.place.size() > discovery::kMaxNameBytes) {
    return {Errc::invalid_argument, "the name of the place is too long"};
  }
  auto source =
      weights::open_source(options_.folder, options_.weights, cache_folder(), hash_cache_file(),
                           torrent_peers(options_.discovery, self_, options_.weights.upload_mbps));
  if (!source) return source.error();
  source_ = *std::move(source);
  if (options_.choose_layers) return start_where_needed();
  const Result<void> opened = open(options_.layers);
  if (!opened || !options_.discovery.enabled()) return opened;
  const Result<void> joined = join_mesh();
  if (!joined) return joined.error();
  publish();
  return {};
}

/// Loads `layers` and begins to listen; again at the same address after close().
Result<void> ServingNode::open(Span layers) {
  StageOptions options;
  options.source = source_;
  options.layers = layers;
  options.head = options_.head;
  options.precision = precision_;
  options.kv = options_.kv;
  options.numerics = options_.numerics;
  options.device = options_.device;
  options.threads = options_.threads;
  options.pin_threads = options_.pin_threads;
  options.cache_tokens = options_.cache_tokens;
  options.on_loading = options_.on_loading;
  const TimePoint began = runtime_.clock().now();
  Result<Stage> loaded = load_stage(options, runtime_);
  if (!loaded) return loaded.error();
  load_time_ = runtime_.clock().now() - began;
  if (options_.discovery.enabled()) measure(*loaded);  // its record tells it
  if (model_hash_.empty()) {
    stage_.config = loaded->config;
    stage_.hash = loaded->hash;
    model_hash_ = model::to_hex(stage_.hash);
  }
  if (numerics_class_.empty()) numerics_class_ = loaded->worker->info().numerics_class;
  Result<void> listening;
  runtime_.run_blocking([&] {
    stage_.worker = std::move(loaded->worker);
    stage_.speed = std::move(loaded->speed);
    span_ = layers;
    listening = listen();
  });
  return listening;
}

/// How fast it runs a layer: tried once, and remembered for what it depends on.
void ServingNode::measure(Stage& stage) {
  const std::filesystem::path folder = cache_folder();
  const std::filesystem::path file = folder.empty() ? folder : folder / "step-times";
  const Hardware hardware = detect_hardware({.gpu_program = ""});
  const bool on_cpu = options_.device.kind == DeviceKind::cpu;
  const std::string gpu = on_cpu ? "" : ", " + name(options_.device);
  const std::string key =
      step_time_key(stage.hash, stage.worker->info().numerics_class, options_.threads,
                    fmt::format("{}, {} cores{}", hardware.cpu, hardware.cores, gpu));
  const std::uint32_t known = remembered_step_time(file, key, std::chrono::system_clock::now());
  if (known > 0) {
    stage.speed->assume(known);
  } else {
    probe_speed(*stage.worker, runtime_);
    if (const std::uint32_t us = stage.speed->layer_us(); us > 0) {
      remember_step_time(file, key, us, std::chrono::system_clock::now());
    }
  }
  log(LogLevel::info, "node",
      fmt::format("a layer takes {} us a token, {}", stage.speed->layer_us(),
                  known > 0 ? "as it did before" : "measured"));
}

Result<void> ServingNode::join_mesh() {
  const std::string& dialled = !options_.advertise.empty() ? options_.advertise
                               : address_.empty()          ? options_.listen
                                                           : address_;
  const Result<net::HostPort> parsed = net::parse_address(dialled);
  if (!parsed) return parsed.error();
  if (parsed->host == "0.0.0.0" || parsed->host == "::") {
    return {Errc::config_invalid,
            "who listens on every address must advertise the one where others dial it"};
  }
  discovery::DirectoryOptions directory;
  directory.model_hash = stage_.hash;
  directory.num_layers = stage_.config.num_layers;
  directory.hello = client_hello(runtime_.node_id());
  auto joined =
      Mesh::join(runtime_, self_, options_.discovery, std::move(directory), options_.listen);
  if (!joined) return joined.error();
  runtime_.run_blocking([this, &joined] {
    mesh_ = *std::move(joined);
    mesh_->directory().on_change([this] {
      use_found_peers();
      if (doorway_) doorway_->look_again();
      if (life_) life_->nudge();
      const std::lock_guard lock(mutex_);
      ++view_version_;
      changed_.notify_all();
    });
    mesh_->directory().start();
  });
  return {};
}

/// What this node serves is told to the mesh from now on.
void ServingNode::publish() {
  runtime_.run_blocking([this] {
    const auto parsed =
        net::parse_address(options_.advertise.empty() ? address_ : options_.advertise);
    FARMESH_ASSERT(parsed.has_value());  // join_mesh() looked at it
    if (!doorway_) open_doorway();
    mesh_->directory().publish(self_.credentials.key, parsed->port, [this] { return describe(); });
  });
}

void ServingNode::open_doorway() {
  const Result<net::HostPort> at = net::parse_address(address_);
  FARMESH_ASSERT(at.has_value());  // a listener has it
  DoorwayOptions options;
  options.hello = client_hello(runtime_.node_id());
  options.announced = options_.advertise.empty() ? address_ : options_.advertise;
  options.port = at->port;
  options.relaying.sessions = options_.relay.sessions;
  options.relaying.bytes_per_second = options_.relay.megabits_per_second * 1e6 / 8;
  options.relaying.bytes_per_day =
      static_cast<std::uint64_t>(options_.relay.gigabytes_per_day * 1e9);
  if (const auto folder = cache_folder(); !folder.empty()) {
    options.bandwidth_file = folder / "bandwidth";
  }
  Doorway::Events events;
  events.on_ways = [this] {
    mesh_->directory().renew();
    tell_head_own_way();
  };
  events.on_link = [this](std::shared_ptr<net::Link> link) {
    if (peer_) peer_->attach(std::move(link));
  };
  events.listens = [this] { return peer_ != nullptr; };
  doorway_ = std::make_unique<Doorway>(runtime_.tcp(), mesh_->directory(), std::move(options),
                                       std::move(events));
  doorway_->start();
  if (!options_.discovery.map_ports) return;
  mesh_->map_port(at->port, [this](const discovery::PortMapped& answer) {
    if (doorway_) doorway_->mapped(answer);
  });
}

void ServingNode::leave_mesh() {
  std::function<net::Task<void>()> leave = [this] {
    return mesh_->directory().leave(runtime_.clock().now() + kLeaveTime);
  };
  runtime_.await_blocking<void>(std::move(leave));
}

/// Lets open sessions end for at most `drain`, then gives the layers back.
void ServingNode::close(std::chrono::milliseconds drain) {
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
    service_.reset();
    found_ = FoundPeers({}, wire::kMaxPeers);
    stage_.worker.reset();
    span_ = {};
  });
}

discovery::NodeRecord ServingNode::describe() {
  const model::EngineInfo& info = stage_.worker->info();
  const wire::Pong load = stage_.worker->load();
  discovery::NodeRecord record;
  Doorway::Ways ways = doorway_->ways();
  record.addresses = std::move(ways.addresses);
  record.relay = std::move(ways.relay);
  record.relays = doorway_->relays();
  record.software = software_name();
  record.model_id = model_id_;
  record.model_hash = stage_.hash;
  record.numerics_class = info.numerics_class;
  record.num_layers = stage_.config.num_layers;
  record.span = span_;
  record.head = options_.head;
  record.queued_rows = load.queued_rows;
  record.free_tokens = load.free_pages * info.page_tokens;
  record.sessions = load.sessions;
  record.layer_us = stage_.speed->layer_us();
  record.bandwidth_kbps = doorway_->bandwidth_kbps();
  record.place = options_.place;
  record.wallet_statement.assign(wallet_statement_.begin(), wallet_statement_.end());
  return record;
}

void ServingNode::use_found_peers() {
  if (!service_) return;
  std::vector<std::string> told;
  std::map<std::string, driver::PeerClaims> claims;
  for (const discovery::RecordPtr& one : mesh_->directory().view()) {
    const std::string address = discovery::dial_address(one->record);
    if (address.empty()) continue;
    told.push_back(address);
    claims.emplace(address, claims_of(one->record));
  }
  found_.look(told, [](const std::string&) { return false; });
  std::erase_if(claims, [this](const auto& claim) {
    const auto& used = found_.all();
    return std::find(used.begin(), used.end(), claim.first) == used.end();
  });
  service_->find_peers(found_.all(), std::move(claims));
}

/// Where others dial this node, as far as it knows; empty: nowhere for now.
std::string ServingNode::own_way() const {
  if (!doorway_) return options_.advertise.empty() ? address_ : options_.advertise;
  const Doorway::Ways ways = doorway_->ways();
  if (!ways.addresses.empty()) return ways.addresses.front();
  return ways.relay.empty() ? std::string() : net::circuit_address(ways.relay, runtime_.node_id());
}

/// The loop reaches the layers of this node as it reaches all others, and as others do: rows are
/// pushed here by the peers before it.
void ServingNode::tell_head_own_way() {
  if (service_ && !span_.empty()) service_->serve_own(own_way());
}

Result<void> ServingNode::listen() {
  serve::PeerOptions peer;
  peer.node_id = runtime_.node_id();
  peer.software = software_name();
  peer.advertised_address = options_.advertise;
  peer.model_id = model_id_;
  peer.model_hash = stage_.hash;
  peer.num_layers = stage_.config.num_layers;
  peer.shares = {options_.max_remote_sessions, options_.max_remote_tokens,
                 options_.max_unpaid_tokens};
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
    peer.on_reach = [this](const auto& connection, const wire::Frame& request) {
      if (doorway_) return doorway_->answer(connection, request);
      static_cast<void>(connection->reply_error(request, {Errc::busy, "not in the mesh yet"}));
    };
  }
  if (options_.head) service_ = make_service();
  peer_ = std::make_unique<serve::Peer>(runtime_.tcp(), *stage_.worker, std::move(peer),
                                        service_.get());
  Result<std::string> address = peer_->listen(address_.empty() ? options_.listen : address_);
  if (!address) return address.error();
  address_ = *std::move(address);
  tell_head_own_way();
  return {};
}

std::unique_ptr<GenerateService> ServingNode::make_service() {
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
  set.hello = client_hello(runtime_.node_id());
  set.model_hash = stage_.hash;
  set.numerics_class = stage_.worker->info().numerics_class;
  set.on_unreachable = [this](const std::string& address) {
    if (mesh_) mesh_->report_unreachable(address);
  };
  return std::make_unique<GenerateService>(runtime_, *stage_.worker, std::move(model),
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
  changed_.notify_all();
  std::unique_ptr<Life> life;
  runtime_.run_blocking([&] { life = std::move(life_); });
  life.reset();             // waits for a move under way, which ends early
  if (mesh_) leave_mesh();  // first, so that new sessions go elsewhere while the open ones end
  close(drain);
  runtime_.run_blocking([this] {
    doorway_.reset();
    mesh_.reset();
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

Span ServingNode::layers() {
  Span layers;
  runtime_.run_blocking([&] { layers = span_; });
  return layers;
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

}  // namespace farmesh::node
