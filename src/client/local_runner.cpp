#include "client/local_runner.hpp"

#include <algorithm>
#include <utility>

#include "base/digest.hpp"
#include "driver/draft_model.hpp"

namespace farmesh::client {
namespace {

driver::GeneratorOptions generator_options(const SharedModel& model, std::uint32_t context_tokens,
                                           RouteWishes wishes) {
  driver::GeneratorOptions options;
  random_bytes(options.session.bytes);
  options.num_layers = model.num_layers;
  options.hidden_size = model.hidden_size;
  options.vocab_size = model.vocab_size;
  options.max_position = context_tokens;
  options.page_tokens = model.page_tokens;
  options.residual = model.residual;
  options.prefix_key = model.prefix_key;
  options.chain.warm_standby = wishes.warm_standby;
  options.chain.activations = wishes.activations;
  if (model.draft) {
    driver::DraftModelOptions draft = model.draft->options;
    random_bytes(draft.session.bytes);
    options.draft_model =
        std::make_shared<driver::DraftModel>(*model.draft->peers, *model.draft->head, draft);
  }
  return options;
}

}  // namespace

LocalRunner::LocalRunner(const SharedModel& model, wire::Head& head, std::uint32_t context_tokens,
                         std::function<bool()> is_open, RouteWishes wishes)
    : model_(model),
      head_(head, std::move(is_open)),
      context_tokens_(context_tokens),
      wishes_(wishes) {}

net::Task<Result<wire::Finish>> LocalRunner::run(TurnInput input, driver::OnToken on_token) {
  driver::Turn turn;
  turn.emitted = input.emitted;
  turn.max_tokens = input.max_tokens;
  turn.sampling = std::move(input.sampling);
  turn.stop_tokens = std::move(input.stop_tokens);
  turn.max_draft = input.max_draft;

  // Go on behind what the generator holds, if that is how this text begins.
  const std::vector<TokenId>* held = generator_ ? &generator_->ids() : nullptr;
  if (held != nullptr && input.emitted == 0 && input.bill == bill_ && input.nodes == nodes_ &&
      held->size() <= input.ids.size() &&
      std::equal(held->begin(), held->end(), input.ids.begin())) {
    turn.ids.assign(input.ids.begin() + std::ptrdiff_t(held->size()), input.ids.end());
  } else {
    recoveries_ = recoveries();
    driver::GeneratorOptions options = generator_options(model_, context_tokens_, wishes_);
    options.chain.traceparent = std::move(input.traceparent);
    options.chain.bill = bill_ = std::move(input.bill);
    options.chain.nodes = nodes_ = std::move(input.nodes);
    generator_.emplace(*model_.peers, head_, std::move(options));
    turn.ids = std::move(input.ids);
  }
  co_return co_await generator_->generate(std::move(turn), std::move(on_token));
}

void LocalRunner::cancel() {
  if (generator_) generator_->cancel();
}

void LocalRunner::poke() { head_.poke(); }

std::vector<driver::CommittedRows> LocalRunner::committed() const {
  return generator_ ? generator_->committed() : std::vector<driver::CommittedRows>();
}

std::uint32_t LocalRunner::recoveries() const {
  return recoveries_ + (generator_ ? generator_->recoveries() : 0);
}

}  // namespace farmesh::client
