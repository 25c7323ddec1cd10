#include "cli/stand_in_model.hpp"

#include <utility>

namespace farmesh::cli {

using Clock = std::chrono::steady_clock;

class StandInTokens final : public gateway::TurnTokens {
 public:
  StandInTokens(StandInModel& model, std::uint32_t max_tokens)
      : model_(model), max_tokens_(max_tokens), due_(Clock::now()) {
    const std::vector<HopUsage> hops{{.peer = std::string(64, 'a'), .span = {0, 11}},
                                     {.peer = std::string(64, 'b'), .span = {11, 22}},
                                     {.peer = std::string(64, 'c'), .span = {22, 32}}};
    usage_.prompt_tokens = 1;
    usage_.prompt_routes.push_back({1, hops});
    usage_.routes.push_back({0, hops});
  }

  Result<std::optional<Token>> next() override {
    std::unique_lock lock(model_.mutex_);
    if (told_ == max_tokens_) return end(FinishReason::length);
    if (model_.pace_ > std::chrono::microseconds::zero()) {
      due_ += model_.pace_;
      model_.allowed_.wait_until(lock, due_, [this] { return cancelled_; });
    } else {
      model_.allowed_.wait(lock, [this] { return cancelled_ || model_.allowance_ > 0; });
    }
    if (cancelled_) return end(FinishReason::cancelled);
    if (model_.allowance_ > 0) --model_.allowance_;
    const Clock::time_point now = Clock::now();
    if (told_ > 0) {
      const auto gap = std::chrono::duration_cast<std::chrono::microseconds>(now - last_);
      model_.longest_gap_ = std::max(model_.longest_gap_, gap);
    }
    last_ = now;
    Token token;
    token.id = told_++;
    token.text = StandInModel::kWord;
    ++usage_.tokens;
    ++usage_.routes.back().tokens;
    return std::optional<Token>(std::move(token));
  }

  void cancel() override {
    const std::lock_guard lock(model_.mutex_);
    cancelled_ = true;
    model_.allowed_.notify_all();
  }

  Usage usage() const override {
    const std::lock_guard lock(model_.mutex_);
    return usage_;
  }

 private:
  std::optional<Token> end(FinishReason reason) {
    usage_.finish = reason;
    return std::nullopt;
  }

  StandInModel& model_;  // whose mutex guards the below
  const std::uint32_t max_tokens_;
  std::uint32_t told_ = 0;
  Clock::time_point due_, last_;
  bool cancelled_ = false;
  Usage usage_;
};

std::unique_ptr<gateway::TurnTokens> StandInModel::start(const gateway::TurnInput& input) {
  return std::make_unique<StandInTokens>(*this, input.options.max_tokens);
}

gateway::ModelState StandInModel::state() const {
  gateway::ModelState state;
  state.summary.model_hash = std::string(64, '0');
  state.summary.numerics_class = "stand-in";
  state.summary.num_layers = 32;
  state.summary.hidden_size = 4'096;
  state.summary.context_tokens = 1 << 20;
  state.summary.has_chat_template = true;
  state.local = true;
  return state;
}

void StandInModel::allow() {
  {
    const std::lock_guard lock(mutex_);
    ++allowance_;
  }
  allowed_.notify_one();
}

std::chrono::microseconds StandInModel::longest_gap() const {
  const std::lock_guard lock(mutex_);
  return longest_gap_;
}

}  // namespace farmesh::cli
