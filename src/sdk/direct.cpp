// The peers themselves: a DistributedModel as a FarMesh shows it. Nobody pays, so nothing costs.
#include <algorithm>
#include <random>
#include <utility>

#include <farmesh/model.hpp>

#include "sdk/backend.hpp"

namespace farmesh::sdk {
namespace {

constexpr std::uint32_t kMostDraft = 16;  // tokens guessed ahead in one step

class DirectTurn final : public Turn {
 public:
  DirectTurn(std::shared_ptr<const DistributedModel> model, TokenStream stream)
      : model_(std::move(model)), stream_(std::move(stream)) {}

  void cancel() override { stream_.cancel(); }

  void run(StreamState& state) override {
    for (;;) {
      Result<std::optional<Token>> token = stream_.next();
      if (!token) return state.fail(mesh_error(token.error()));
      if (!*token) return state.finish(usage());
      std::string& text = (*token)->text;
      if (!text.empty() && !state.push(std::move(text))) return;
    }
  }

 private:
  MeshUsage usage() const {
    const Usage made = stream_.usage();
    MeshUsage usage;
    usage.prompt_tokens = made.prompt_tokens;
    usage.tokens = made.tokens;
    usage.finish = made.finish;
    usage.cost = Far();
    const std::vector<PeerStatus> peers = model_->info().peers;
    for (const HopUsage& hop : made.hops) {
      const auto peer = std::find_if(peers.begin(), peers.end(), [&hop](const PeerStatus& each) {
        return each.address == hop.peer && !each.node_id.empty();
      });
      usage.nodes_used.push_back({peer == peers.end() ? hop.peer : peer->node_id, hop.span});
    }
    return usage;
  }

  const std::shared_ptr<const DistributedModel> model_;
  TokenStream stream_;
};

class Direct final : public Backend {
 public:
  Direct(DistributedModel model, std::uint32_t max_draft)
      : model_(std::make_shared<const DistributedModel>(std::move(model))), max_draft_(max_draft) {}

  MeshResult<std::shared_ptr<Turn>> start(Ask ask) override {
    if (!ask.options.model.empty() && ask.options.model != model_->info().model_id) {
      return mesh_error({Errc::model_not_found,
                         "This mesh was opened for one model: " + model_->info().model_id});
    }
    Result<Session> session = model_->open_session();
    if (!session) return mesh_error(session.error());
    const GenerateOptions options = options_of(ask.options);
    const auto* text = std::get_if<std::string>(&ask.prompt);
    TokenStream stream =
        text != nullptr ? session->generate(*text, options)
                        : session->chat(std::get<std::vector<ChatMessage>>(ask.prompt), options);
    return std::shared_ptr<Turn>(std::make_shared<DirectTurn>(model_, std::move(stream)));
  }

  MeshResult<std::vector<MeshModel>> models() override {
    const MeshStatus now = status_now();
    return std::vector<MeshModel>{{now.model_id, now.active_nodes, Far(), now.connected}};
  }

  MeshResult<MeshStatus> status(const std::string& model) override {
    MeshStatus now = status_now();
    if (model.empty() || model == now.model_id) return now;
    return mesh_error({Errc::model_not_found, "This mesh was opened for " + now.model_id + "."});
  }

  MeshResult<MeshEarnings> earnings(const std::string&) override {
    return mesh_error({Errc::unsupported, "A coordinator knows earnings; a mesh alone does not."});
  }

 private:
  GenerateOptions options_of(const AskOptions& ask) const {
    GenerateOptions options;
    options.max_tokens = ask.max_tokens;
    options.sampling = ask.sampling;
    options.sampling.seed = ask.seed ? *ask.seed : std::random_device{}();
    options.sampling.top_logprobs = 0;
    options.stop = ask.stop;
    options.ignore_eos = ask.ignore_eos;
    options.max_draft = max_draft_;
    return options;
  }

  MeshStatus status_now() const {
    const ModelSummary info = model_->info();
    MeshStatus status;
    status.model_id = info.model_id;
    status.active_nodes = std::uint32_t(
        std::count_if(info.peers.begin(), info.peers.end(),
                      [](const PeerStatus& peer) { return peer.connected && !peer.refused; }));
    // What was covered when it opened; that it still is, a turn finds out.
    status.connected = status.active_nodes > 0 || info.peers.empty();
    return status;
  }

  const std::shared_ptr<const DistributedModel> model_;
  const std::uint32_t max_draft_;
};

}  // namespace

MeshResult<std::shared_ptr<Backend>> make_direct_backend(ModelOptions options) {
  const std::uint32_t max_draft = options.draft_model.empty() ? 0 : kMostDraft;
  Result<DistributedModel> model = DistributedModel::open(std::move(options));
  if (!model) return mesh_error(model.error());
  return std::shared_ptr<Backend>(std::make_shared<Direct>(*std::move(model), max_draft));
}

}  // namespace farmesh::sdk
