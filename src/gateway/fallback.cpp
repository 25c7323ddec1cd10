#include "gateway/fallback.hpp"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "base/thread.hpp"

namespace farmesh::gateway {
namespace {

// What is the mesh's failure, and not the request's.
bool is_of_the_mesh(Errc code) {
  switch (code) {
    case Errc::no_route:
    case Errc::head_unavailable:
    case Errc::span_unavailable:
    case Errc::compute_failed: return true;
    default: return should_reroute(code);
  }
}

// Cancels a stream unless it is told in time that the first token came.
class FirstTokenWatch {
 public:
  FirstTokenWatch(TurnTokens& tokens, std::chrono::milliseconds patience)
      : thread_(start_thread("fallback", [this, &tokens, patience] {
          std::unique_lock lock(mutex_);
          if (came_.wait_for(lock, patience, [this] { return done_; })) return;
          late_ = true;
          lock.unlock();
          tokens.cancel();
        })) {}
  ~FirstTokenWatch() { (void)was_late(); }

  /// The first token came, or the stream ended: whether that was too late.
  bool was_late() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    came_.notify_all();
    if (thread_.joinable()) thread_.join();
    return late_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  bool done_ = false;
  bool late_ = false;
  std::thread thread_;
};

class FallbackTokens final : public TurnTokens {
 public:
  FallbackTokens(std::shared_ptr<Model> mesh, std::shared_ptr<Model> fallback, TurnInput input,
                 FallbackOptions options)
      : mesh_(std::move(mesh)),
        fallback_(std::move(fallback)),
        input_(std::move(input)),
        options_(options),
        tokens_(mesh_->start(input_)) {}

  Result<std::optional<Token>> next() override {
    if (TurnTokens* spare = switched()) return spare->next();
    Result<std::optional<Token>> token = from_mesh();
    const bool failed = !token && is_of_the_mesh(token.error().code);
    if (!failed && !late_) {
      if (token && *token) told_.push_back((*token)->id);
      return token;
    }
    log(LogLevel::warning, "gateway",
        "the mesh does not answer, the fallback does: " +
            (token ? std::string("no token in time") : token.error().to_string()));
    return switch_over();
  }

  void cancel() override {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    tokens_->cancel();
    if (spare_) spare_->cancel();
  }

  // What the mesh made and what came after it.
  Usage usage() const override {
    const std::lock_guard lock(mutex_);
    Usage all = tokens_->usage();
    if (!spare_) return all;
    const Usage more = spare_->usage();
    if (all.prompt_tokens == 0) all.prompt_tokens = more.prompt_tokens;
    if (all.tokens == 0) all.prompt_routes = more.prompt_routes;  // whose tokens stand on it
    all.tokens += more.tokens;
    all.finish = more.finish;
    all.hops = more.hops;
    all.routes.insert(all.routes.end(), more.routes.begin(), more.routes.end());
    return all;
  }

  Origin origin() const override {
    const std::lock_guard lock(mutex_);
    if (!spare_) return tokens_->origin();
    return spare_->origin() == Origin::mesh ? Origin::fallback : spare_->origin();
  }

 private:
  TurnTokens* switched() const {
    const std::lock_guard lock(mutex_);
    return spare_.get();
  }

  Result<std::optional<Token>> from_mesh() {
    // Tokens that are told again say nothing about the mesh.
    if (told_.size() != input_.options.resume.size()) return tokens_->next();
    FirstTokenWatch watch(*tokens_, options_.first_token);
    Result<std::optional<Token>> first = tokens_->next();
    late_ = watch.was_late() && !(first && *first);
    return first;
  }

  // Goes on behind what was told, which the fallback tells again.
  Result<std::optional<Token>> switch_over() {
    late_ = false;
    TurnInput rest = input_;
    rest.options.resume = told_;
    rest.options.bill = nullptr;  // the operator's own
    auto spare = fallback_->start(rest);
    TurnTokens* const tokens = spare.get();
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_) spare->cancel();
      spare_ = std::move(spare);
    }
    for (std::size_t i = 0; i < told_.size(); ++i) {
      Result<std::optional<Token>> again = tokens->next();
      if (!again || !*again) return again;
    }
    return tokens->next();
  }

  const std::shared_ptr<Model> mesh_, fallback_;
  const TurnInput input_;
  const FallbackOptions options_;
  const std::unique_ptr<TurnTokens> tokens_;
  std::vector<TokenId> told_;  // the reading thread's, as late_
  bool late_ = false;
  mutable std::mutex mutex_;  // guards the below
  bool cancelled_ = false;
  std::unique_ptr<TurnTokens> spare_;
};

}  // namespace

std::unique_ptr<TurnTokens> FallbackModel::start(const TurnInput& input) {
  return std::make_unique<FallbackTokens>(mesh_, fallback_, input, options_);
}

}  // namespace farmesh::gateway
