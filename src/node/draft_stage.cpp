#include "node/draft_stage.hpp"

#include <algorithm>
#include <utility>

#include "node/hello.hpp"

namespace farmesh::node {

Result<std::uint32_t> shared_ids(const text::Tokenizer& model, const text::Tokenizer& draft) {
  // Vocabularies are padded at their ends, to sizes of one's own.
  const std::size_t both = std::min(model.vocab_size(), draft.vocab_size());
  const std::size_t all = std::max(model.vocab_size(), draft.vocab_size());
  for (std::size_t at = 0; at < all; ++at) {
    const auto id = static_cast<TokenId>(at);
    if (model.token_bytes(id) == draft.token_bytes(id) &&
        model.is_special(id) == draft.is_special(id)) {
      continue;
    }
    return {Errc::config_mismatch, "the draft model has another tokenizer: token " +
                                       std::to_string(id) +
                                       (at < both ? " differs" : " is only in one of the two")};
  }
  return static_cast<std::uint32_t>(both);
}

Result<std::unique_ptr<DraftStage>> DraftStage::load(StageOptions options,
                                                     const text::Tokenizer& tokenizer,
                                                     net::Runtime& runtime) {
  // Before the weights, which take longer to come.
  const auto own_tokenizer = text::load_tokenizer(options.source->folder());
  if (!own_tokenizer) return own_tokenizer.error();
  const Result<std::uint32_t> ids = shared_ids(tokenizer, **own_tokenizer);
  if (!ids) return ids.error();

  options.layers.reset();
  options.head = true;
  Result<Stage> stage = load_stage(options, runtime);
  if (!stage) return stage.error();

  std::unique_ptr<DraftStage> draft(new DraftStage);
  draft->worker_ = std::move(stage->worker);
  const model::EngineInfo& info = draft->worker_->info();
  driver::DraftModelOptions& shape = draft->shared_.options;
  shape.num_layers = stage->config.num_layers;
  shape.hidden_size = info.hidden_size;
  shape.vocab_size = info.vocab_size;
  shape.shared_ids = *ids;
  shape.max_position = stage->config.max_position;
  shape.residual = info.residual;
  std::function<net::Task<Result<void>>()> connecting = [&] {
    return draft->connect(runtime, *stage);
  };
  const Result<void> connected = runtime.await_blocking<Result<void>>(std::move(connecting));
  if (!connected) {
    runtime.run_blocking([&] { draft.reset(); });
    return connected.error();
  }
  return draft;
}

net::Task<Result<void>> DraftStage::connect(net::Runtime& runtime, const Stage& stage) {
  driver::PeerSetOptions set;
  set.hello = client_hello(runtime.node_id());
  set.model_hash = stage.hash;
  set.numerics_class = worker_->info().numerics_class;
  peers_ = std::make_unique<driver::PeerSet>(runtime.tcp(), std::move(set));
  peer_ = make_local_peer(runtime, *worker_, stage.config, stage.hash);
  shared_.peers = peers_.get();
  shared_.head = worker_.get();
  auto adding = add_local_peer(runtime, *peer_, *peers_);
  const Result<void> added = co_await std::move(adding);
  co_return added;
}

}  // namespace farmesh::node
