// Requests to the head that wait, and the pass that answers all of one kind together.
//
// Takes embeddings and logits wanted from worker.hpp, gives it passes to run on the engine.
// Threading: confined to the network thread; Pass::work runs on the compute thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "model/stage_engine.hpp"
#include "serve/step.hpp"

namespace farmesh::serve {

class HeadQueue {
 public:
  using EmbedDone = std::function<void(Result<Payload>)>;
  using LogitsDone = std::function<void(Result<std::vector<float>>)>;

  struct Pass {
    std::uint32_t rows = 0;
    std::function<void()> work;  // on the compute thread
    std::function<void()> done;  // on the network thread: answers every request of the pass
  };

  /// `engine` must outlive every pass.
  HeadQueue(model::StageEngine& engine, const WorkerLimits& limits);

  /// Refusals answer at once: head_unavailable, bad_payload, bad_shape, busy.
  void embed(std::vector<TokenId> ids, EmbedDone done);
  void logits(Payload hidden, std::uint32_t rows, LogitsDone done);

  bool wants_embed() const noexcept { return !embeds_.empty(); }
  bool wants_logits() const noexcept { return !logits_.empty(); }
  /// The waiting requests, up to max_batch_rows rows; a larger one by itself.
  Pass take_embed();
  Pass take_logits();

  std::uint32_t queued_rows() const noexcept { return queued_rows_; }

 private:
  struct EmbedRequest {
    std::vector<TokenId> ids;
    EmbedDone done;
    std::uint32_t rows() const noexcept { return static_cast<std::uint32_t>(ids.size()); }
  };
  struct LogitsRequest {
    Payload hidden;
    std::uint32_t count = 0;
    LogitsDone done;
    std::uint32_t rows() const noexcept { return count; }
  };
  struct EmbedPass;
  struct LogitsPass;

  Result<void> admit(std::size_t rows) const;
  template <class Request>
  std::vector<Request> take(std::deque<Request>& queue);

  model::StageEngine& engine_;
  std::uint32_t max_request_rows_;
  std::uint32_t max_pass_rows_;
  std::uint32_t max_queued_rows_;
  std::deque<EmbedRequest> embeds_;
  std::deque<LogitsRequest> logits_;
  std::uint32_t queued_rows_ = 0;
};

}  // namespace farmesh::serve
