#include "node/open_model.hpp"

#include <algorithm>
#include <functional>

#include "base/digest.hpp"
#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "node/cache_folder.hpp"
#include "node/hello.hpp"
#include "node/model_text.hpp"
#include "node/stage.hpp"
#include "node/torrent_peers.hpp"
#include "route/planner.hpp"

namespace farmesh::node {
namespace {

constexpr std::chrono::seconds kDiscoveryTime{20};  // to find peers for every layer
constexpr std::chrono::seconds kRedialEvery{5};     // peers that went away and may be back
constexpr std::size_t kMaxFoundPeers = wire::kMaxPeers;

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

/// `alive` ends with the model, and with the peer set.
net::Task<void> dial_found(std::weak_ptr<net::Event> alive, driver::PeerSet& peers,
                           TimePoint deadline) {
  if (alive.expired()) co_return;
  auto dialling = peers.connect_all(deadline);
  co_await std::move(dialling);
}

}  // namespace

OpenModel::OpenModel(ModelOptions options, OwnIdentity self)
    : options_(std::move(options)),
      self_(std::move(self)),
      runtime_(self_.credentials),
      addresses_(options_.peers, kMaxFoundPeers) {}

OpenModel::~OpenModel() {
  if (turns_) {
    std::function<net::Task<void>()> close = [this] { return turns_->close_all(); };
    runtime_.await_blocking<void>(std::move(close));
  }
  runtime_.run_blocking([this] {
    if (closing_) closing_->set();
    mesh_.reset();
    found_.reset();
    turns_.reset();
    peers_.reset();
    local_peer_.reset();
    worker_.reset();
    draft_.reset();
  });
}

Result<void> OpenModel::check_options() const {
  if (options_.local && options_.remote_head) {
    return {Errc::invalid_argument, "a model whose layers are here needs no remote head"};
  }
  if (!options_.local && options_.peers.empty() && !options_.discovery.enabled()) {
    return {Errc::no_route, "neither local layers nor a peer to serve them"};
  }
  if (options_.remote_head && !options_.draft_model.empty()) {
    return {Errc::invalid_argument,
            "a draft model guesses where the head is, and that is a peer's"};
  }
  return {};
}

Result<void> OpenModel::open() {
  if (const Result<void> valid = check_options(); !valid) return valid;
  auto source =
      weights::open_source(options_.folder, options_.weights, cache_folder(), hash_cache_file(),
                           torrent_peers(options_.discovery, self_, options_.weights.upload_mbps));
  if (!source) return source.error();
  source_ = *std::move(source);
  Result<model::ModelConfig> config = model::read_model_config(source_->folder());
  if (!config) return config.error();
  config_ = *std::move(config);
  std::optional<model::EnginePreparation> linking;  // while the text side is read
  if (!options_.remote_head) linking.emplace();
  if (const Result<void> text = read_model_text(source_->folder(), config_, shared_); !text) {
    return text;
  }
  if (!options_.remote_head) {
    if (const Result<void> weights = open_weights(); !weights) return weights;
  }
  if (const Result<void> draft = open_draft(); !draft) return draft;

  runtime_.run_blocking([this] { make_peer_set(); });
  if (options_.discovery.enabled()) {
    if (const Result<void> joined = join_mesh(); !joined) return joined;
  }
  std::function<net::Task<Result<void>>()> dial = [this] { return connect(); };
  return runtime_.await_blocking<Result<void>>(std::move(dial));
}

Result<void> OpenModel::open_weights() {
  StageOptions stage;
  stage.source = source_;
  if (!options_.local) stage.layers = Span{};
  stage.head = true;
  stage.precision = options_.precision;
  stage.kv = options_.kv;
  stage.numerics = options_.numerics;
  stage.device = options_.device;
  stage.threads = options_.threads;
  stage.pin_threads = options_.pin_threads;
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

Result<void> OpenModel::open_draft() {
  if (options_.draft_model.empty()) return {};
  WeightsOptions from = options_.weights;
  from.revision = WeightsOptions().revision;  // what names the one model's files names no other's
  from.manifest.clear();
  from.model_hash.clear();
  auto source = weights::open_source(options_.draft_model, from, cache_folder(), hash_cache_file());
  if (!source) return source.error();
  StageOptions stage;
  stage.source = *std::move(source);
  stage.precision = options_.precision;
  stage.kv = options_.kv;
  stage.numerics = options_.numerics;
  stage.device = options_.device;
  stage.threads = options_.threads;
  stage.pin_threads = options_.pin_threads;
  stage.cache_tokens = options_.cache_tokens;
  Result<std::unique_ptr<DraftStage>> loaded =
      DraftStage::load(std::move(stage), *shared_.tokenizer, runtime_);
  if (!loaded) return loaded.error();
  draft_ = *std::move(loaded);
  shared_.draft = draft_->shared();
  return {};
}

void OpenModel::make_peer_set() {
  driver::PeerSetOptions set;
  set.hello = client_hello(runtime_.node_id());
  set.dial_timeout = options_.connect_timeout;
  set.key = self_.credentials.key;
  if (hash_) set.model_hash = *hash_;
  if (worker_) set.numerics_class = worker_->info().numerics_class;
  set.on_unreachable = [this](const std::string& address) {
    if (mesh_) mesh_->report_unreachable(address);
  };
  peers_ = std::make_unique<driver::PeerSet>(runtime_.tcp(), std::move(set));
  for (const std::string& address : options_.peers) peers_->add(address);
  turns_ = std::make_unique<client::OpenTurns>(runtime_.clock());

  closing_ = std::make_shared<net::Event>(runtime_.clock());
  net::spawn(runtime_.executor(), "redial", keep_dialling(closing_));

  shared_.runtime = &runtime_;
  shared_.peers = peers_.get();
  shared_.turns = turns_.get();
  shared_.prefix_key.resize(32);
  random_bytes(shared_.prefix_key);
  shared_.peer_addresses = addresses_.all();
}

/// A peer that came back is known before a session needs it. While some layer has nobody, those
/// that were given up for a while are asked as well.
net::Task<void> OpenModel::keep_dialling(std::shared_ptr<net::Event> closing) {
  for (;;) {
    const bool ended = co_await closing->wait(runtime_.clock().now() + kRedialEvery);
    // The wait may have ended in the very turn in which the model did.
    if (ended || closing->is_set()) co_return;
    const TimePoint limit = runtime_.clock().now() + options_.connect_timeout;
    auto dialling = peers_->connect_all(limit, /*even_banned=*/lacks_peers());
    const Failures failures = co_await std::move(dialling);
    if (closing->is_set()) co_return;
    note_failures(failures);
  }
}

void OpenModel::note_failures(const Failures& failures) {
  for (const auto& [address, error] : failures) {
    const auto known = std::find_if(failures_.begin(), failures_.end(),
                                    [&](const auto& one) { return one.first == address; });
    if (known != failures_.end()) {
      known->second = error;
    } else {
      failures_.emplace_back(address, error);
    }
  }
}

/// Some layer, or the head, is with nobody who is connected.
bool OpenModel::lacks_peers() const {
  if (options_.remote_head) return peers_->heads().empty();
  std::vector<bool> held(config_.num_layers);
  for (const route::PeerView& peer : peers_->view()) {
    if (!peers_->is_connected(peer.address)) continue;
    for (std::uint32_t layer = peer.span.begin; layer < peer.span.end; ++layer) {
      if (layer < held.size()) held[layer] = true;
    }
  }
  return std::find(held.begin(), held.end(), false) != held.end();
}

net::Task<Result<void>> OpenModel::connect() {
  if (options_.local) {
    local_peer_ = make_local_peer(runtime_, *worker_, config_, *hash_);
    const Result<void> added = co_await add_local_peer(runtime_, *local_peer_, *peers_);
    if (!added) co_return added;
  }
  failures_ = co_await peers_->connect_all(runtime_.clock().now() + options_.connect_timeout);
  if (options_.open_uncovered) co_return Result<void>();
  if (mesh_) co_return co_await wait_for_peers();
  co_return check_coverage();
}

Result<void> OpenModel::join_mesh() {
  discovery::DirectoryOptions directory;
  if (hash_) {
    directory.model_hash = *hash_;
    directory.num_layers = config_.num_layers;
  }
  directory.hello = client_hello(runtime_.node_id());
  auto joined = Mesh::join(runtime_, self_, options_.discovery, std::move(directory), {});
  if (!joined) return joined.error();
  runtime_.run_blocking([this, &joined] {
    mesh_ = *std::move(joined);
    found_ = std::make_shared<net::Event>(runtime_.clock());
    for (const std::string& address : options_.peers) mesh_->directory().add_contact(address);
    mesh_->directory().on_change([this] { use_found_peers(); });
    mesh_->directory().start();
  });
  return {};
}

/// Peers come one after another; the model is open as soon as they are enough.
net::Task<Result<void>> OpenModel::wait_for_peers() {
  const TimePoint deadline = runtime_.clock().now() + kDiscoveryTime;
  Result<void> covered = check_coverage();
  while (!covered) {
    const bool more = co_await found_->wait(deadline);
    if (!more) break;
    found_->reset();
    const TimePoint limit = runtime_.clock().now() + options_.connect_timeout;
    failures_ = co_await peers_->connect_all(limit);
    covered = check_coverage();
  }
  const discovery::Directory& directory = mesh_->directory();
  if (!covered && directory.refusal() && directory.view().empty()) co_return *directory.refusal();
  co_return covered;
}

void OpenModel::use_found_peers() {
  std::vector<std::string> told;
  std::vector<driver::PeerClaims> claims;
  for (const discovery::RecordPtr& one : mesh_->directory().view()) {
    std::string address = discovery::dial_address(one->record);
    if (address.empty() || one->record.num_layers != config_.num_layers) continue;
    told.push_back(std::move(address));
    claims.push_back(claims_of(one->record));
  }
  const FoundPeers::Change change = addresses_.look(
      told, [this](const std::string& address) { return peers_->is_connected(address); });
  for (const std::string& address : change.dropped) {
    peers_->forget(address);
    std::erase_if(failures_, [&](const auto& failure) { return failure.first == address; });
  }
  for (const std::string& address : change.added) peers_->add(address);
  for (std::size_t i = 0; i < told.size(); ++i) peers_->report_claims(told[i], claims[i]);
  if (change.added.empty()) return;
  shared_.peer_addresses = addresses_.all();
  found_->set();
  net::spawn(runtime_.executor(), "found peers",
             dial_found(found_, *peers_, runtime_.clock().now() + options_.connect_timeout));
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
  summary.hidden_dtype = shared_.residual;
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

void OpenModel::ask_receipts(const std::shared_ptr<driver::Bill>& bill) {
  runtime_.run_blocking([&] { peers_->ask_receipts(bill); });
}

std::vector<PeerStatus> OpenModel::peer_status() const {
  const std::vector<std::string> heads = peers_->heads();
  std::vector<PeerStatus> all;
  for (const std::string& address : addresses_.all()) {
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
    const NodeId id = peers_->node_id(peer.address);
    if (!is_unknown(id)) known->node_id = to_string(id);
    known->connected = peers_->is_connected(peer.address);
    if (known->connected) known->refused.reset();
    known->layers = peer.span;
    known->head = std::find(heads.begin(), heads.end(), peer.address) != heads.end();
    known->round_trip_ms = std::chrono::duration<double, std::milli>(peer.round_trip).count();
  }
  return all;
}

}  // namespace farmesh::node
