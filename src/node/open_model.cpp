#include "node/open_model.hpp"

#include <algorithm>
#include <functional>

#include "base/digest.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "net/sim_transport.hpp"
#include "node/hello.hpp"
#include "node/model_text.hpp"
#include "node/stage.hpp"
#include "route/planner.hpp"

namespace farmesh::node {
namespace {

constexpr const char* kLocalName = "local";  // stands for an address in routes and reports

using Failures = std::vector<std::pair<std::string, Error>>;

// Why a model cannot be used at all: a peer that was refused tells more than a layer without one.
Error most_telling(const Failures& failures, Error otherwise) {
  const auto refused = std::find_if(failures.begin(), failures.end(), [](const auto& failure) {
    const Errc code = failure.second.code;
    return code == Errc::weights_mismatch || code == Errc::numerics_mismatch ||
           code == Errc::version_unsupported || code == Errc::identity_mismatch ||
           code == Errc::join_refused;
  });
  if (refused != failures.end()) return refused->second;
  for (const auto& [address, error] : failures) {
    otherwise.detail += "; " + address + ": " + error.to_string();
  }
  return otherwise;
}

}  // namespace

OpenModel::OpenModel(ModelOptions options, OwnIdentity self)
    : options_(std::move(options)), self_(std::move(self)), runtime_(self_.credentials) {}

OpenModel::~OpenModel() {
  if (turns_) {
    std::function<net::Task<void>()> close = [this] { return turns_->close_all(); };
    runtime_.await_blocking<void>(std::move(close));
  }
  runtime_.run_blocking([this] {
    turns_.reset();
    peers_.reset();
    local_peer_.reset();
    worker_.reset();
  });
}

Result<void> OpenModel::check_options() const {
  if (options_.local && options_.remote_head) {
    return {Errc::invalid_argument, "a model whose layers are here needs no remote head"};
  }
  if (!options_.local && options_.peers.empty()) {
    return {Errc::no_route, "neither local layers nor a peer to serve them"};
  }
  return {};
}

Result<void> OpenModel::open() {
  if (const Result<void> valid = check_options(); !valid) return valid;
  if (options_.remote_head) {
    Result<model::ModelConfig> config = model::read_model_config(options_.folder);
    if (!config) return config.error();
    config_ = *std::move(config);
  } else if (const Result<void> weights = open_weights(); !weights) {
    return weights;
  }
  if (const Result<void> text = read_model_text(options_.folder, config_, shared_); !text) {
    return text;
  }

  runtime_.run_blocking([this] { make_peer_set(); });
  std::function<net::Task<Result<void>>()> dial = [this] { return connect(); };
  return runtime_.await_blocking<Result<void>>(std::move(dial));
}

Result<void> OpenModel::open_weights() {
  StageOptions stage;
  stage.folder = options_.folder;
  if (!options_.local) stage.layers = Span{};
  stage.head = true;
  stage.precision = options_.precision;
  stage.threads = options_.threads;
  stage.cache_tokens = options_.cache_tokens;
  stage.on_loading = options_.on_loading;
  Result<Stage> loaded = load_stage(stage, runtime_);
  if (!loaded) return loaded.error();

  config_ = std::move(loaded->config);
  hash_ = loaded->hash;
  worker_ = std::move(loaded->worker);
  shared_.head = worker_.get();
  shared_.residual = worker_->info().residual;
  shared_.page_tokens = worker_->info().page_tokens;
  return {};
}

void OpenModel::make_peer_set() {
  driver::PeerSetOptions set;
  set.hello = client_hello(runtime_.node_id());
  set.dial_timeout = options_.connect_timeout;
  if (hash_) set.model_hash = *hash_;
  if (worker_) set.numerics_class = worker_->info().numerics_class;
  peers_ = std::make_unique<driver::PeerSet>(runtime_.tcp(), std::move(set));
  for (const std::string& address : options_.peers) peers_->add(address);
  turns_ = std::make_unique<client::OpenTurns>(runtime_.clock());

  shared_.runtime = &runtime_;
  shared_.peers = peers_.get();
  shared_.turns = turns_.get();
  shared_.prefix_key.resize(32);
  random_bytes(shared_.prefix_key);
  shared_.peer_addresses = options_.peers;
}

net::Task<Result<void>> OpenModel::connect() {
  if (options_.local) {
    const Result<void> added = co_await add_local_stage();
    if (!added) co_return added;
  }
  failures_ = co_await peers_->connect_all(runtime_.clock().now() + options_.connect_timeout);
  co_return check_coverage();
}

net::Task<Result<void>> OpenModel::add_local_stage() {
  serve::PeerOptions peer;
  peer.node_id = runtime_.node_id();
  peer.software = software_name();
  peer.model_id = options_.model_id;
  peer.model_hash = *hash_;
  peer.num_layers = config_.num_layers;
  local_peer_ = std::make_unique<serve::Peer>(runtime_.tcp(), *worker_, std::move(peer));
  auto [driver_end, stage_end] =
      net::make_pipe(runtime_.clock(), kLocalName, "driver", {}, runtime_.node_id());
  local_peer_->attach(std::move(stage_end));
  co_return co_await peers_->add_local(kLocalName, std::move(driver_end));
}

Result<void> OpenModel::check_coverage() const {
  if (options_.remote_head) {
    if (!peers_->heads().empty()) return {};
    return most_telling(failures_, {Errc::head_unavailable, "no peer offers a head"});
  }
  const std::vector<route::PeerView> view = peers_->view();
  const Result<route::Route> route = route::plan(view, {0, config_.num_layers}, {});
  if (route) return {};
  return most_telling(failures_, route.error());
}

ModelSummary OpenModel::summary() {
  ModelSummary summary;
  summary.model_id = options_.model_id.empty() ? display_name(options_.folder) : options_.model_id;
  summary.architecture = config_.architecture;
  summary.num_layers = config_.num_layers;
  summary.hidden_size = config_.hidden_size;
  summary.vocab_size = config_.vocab_size;
  summary.context_tokens = config_.max_position;
  summary.has_chat_template = bool(shared_.chat_template);
  if (worker_) summary.weight_bytes = worker_->info().weight_bytes;
  runtime_.run_blocking([this, &summary] {
    const std::optional<wire::Service> service = peers_->service();
    if (service) summary.numerics_class = service->numerics_class;
    if (hash_) {
      summary.model_hash = model::to_hex(*hash_);
    } else if (service) {
      summary.model_hash = model::to_hex(service->model_hash);
    }
    summary.peers = peer_status();
  });
  return summary;
}

std::vector<PeerStatus> OpenModel::peer_status() const {
  const std::vector<std::string> heads = peers_->heads();
  std::vector<PeerStatus> all;
  for (const std::string& address : options_.peers) {
    PeerStatus status;
    status.address = address;
    for (const auto& [refused, error] : failures_) {
      if (refused == address) status.refused = error;
    }
    all.push_back(std::move(status));
  }
  for (const route::PeerView& peer : peers_->view()) {
    const auto known = std::find_if(all.begin(), all.end(), [&peer](const PeerStatus& status) {
      return status.address == peer.address;
    });
    if (known == all.end()) continue;  // the local stage
    known->connected = !peer.banned;
    known->layers = peer.span;
    known->head = std::find(heads.begin(), heads.end(), peer.address) != heads.end();
    known->round_trip_ms = std::chrono::duration<double, std::milli>(peer.round_trip).count();
  }
  return all;
}

}  // namespace farmesh::node
