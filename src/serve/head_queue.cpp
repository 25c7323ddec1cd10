#include "serve/head_queue.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "serve/compute.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve {

HeadQueue::HeadQueue(model::StageEngine& engine, const WorkerLimits& limits)
    : engine_(engine),
      max_request_rows_(limits.max_step_rows),
      max_pass_rows_(limits.max_batch_rows),
      max_queued_rows_(limits.max_queued_rows) {}

Result<void> HeadQueue::admit(std::size_t rows) const {
  if (!engine_.info().head) return {Errc::head_unavailable, "this engine holds no head"};
  if (rows == 0 || rows > max_request_rows_) {
    return {Errc::bad_shape, "a request has 1 to " + std::to_string(max_request_rows_) + " rows"};
  }
  if (rows > max_queued_rows_ - queued_rows_) return {Errc::busy, "the head's queue is full"};
  return {};
}

void HeadQueue::embed(std::vector<TokenId> ids, EmbedDone done) {
  const Result<void> admitted = admit(ids.size());
  if (!admitted) return done(admitted.error());
  const TokenId vocab_size = engine_.info().vocab_size;
  // Here and not in the pass, where one bad id would fail the requests it is computed with.
  if (std::any_of(ids.begin(), ids.end(), [&](TokenId id) { return id >= vocab_size; })) {
    return done(Error{Errc::bad_payload, "a token id is outside the vocabulary"});
  }
  queued_rows_ += static_cast<std::uint32_t>(ids.size());
  embeds_.push_back({std::move(ids), std::move(done)});
}

void HeadQueue::logits(Payload hidden, std::uint32_t rows, LogitsDone done) {
  const Result<void> admitted = admit(rows);
  if (!admitted) return done(admitted.error());
  const model::EngineInfo& info = engine_.info();
  const Result<void> shape = wire::check_tensor(hidden, rows, info.hidden_size, info.residual);
  if (!shape) return done(shape.error());
  queued_rows_ += rows;
  logits_.push_back({std::move(hidden), rows, std::move(done)});
}

template <class Request>
std::vector<Request> HeadQueue::take(std::deque<Request>& queue) {
  std::vector<Request> taken;
  std::uint32_t rows = 0;
  while (!queue.empty() && (taken.empty() || rows + queue.front().rows() <= max_pass_rows_)) {
    rows += queue.front().rows();
    taken.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  queued_rows_ -= rows;
  return taken;
}

// --- embeddings ------------------------------------------------------------------------------

struct HeadQueue::EmbedPass {
  std::vector<EmbedRequest> requests;
  std::vector<TokenId> ids;
  AlignedBuffer rows;  // [ids, hidden]
  Result<void> result;

  Result<void> run(model::StageEngine& engine) {
    const model::EngineInfo& info = engine.info();
    rows = AlignedBuffer(ids.size() * info.hidden_size * bytes_of(info.residual));
    return engine.embed(ids, rows.view());
  }

  void answer() {
    const std::size_t row_bytes = rows.size() / ids.size();
    const Payload all(std::move(rows));
    std::size_t begin = 0;
    for (EmbedRequest& request : requests) {
      const std::size_t size = request.ids.size() * row_bytes;
      if (result) {
        request.done(all.slice(begin, size));
      } else {
        request.done(result.error());
      }
      begin += size;
    }
  }
};

HeadQueue::Pass HeadQueue::take_embed() {
  const auto pass = std::make_shared<EmbedPass>();
  pass->requests = take(embeds_);
  for (const EmbedRequest& request : pass->requests) {
    pass->ids.insert(pass->ids.end(), request.ids.begin(), request.ids.end());
  }
  Pass out;
  out.rows = static_cast<std::uint32_t>(pass->ids.size());
  out.work = [pass, &engine = engine_] {
    pass->result = caught([&] { return pass->run(engine); });
  };
  out.done = [pass] { pass->answer(); };
  return out;
}

// --- logits ----------------------------------------------------------------------------------

struct HeadQueue::LogitsPass {
  std::vector<LogitsRequest> requests;
  std::vector<Result<std::vector<float>>> results;  // one a request

  Result<void> run(model::StageEngine& engine);
  void answer() {
    for (std::size_t i = 0; i < requests.size(); ++i) requests[i].done(std::move(results[i]));
  }
};

Result<void> HeadQueue::LogitsPass::run(model::StageEngine& engine) {
  const model::EngineInfo& info = engine.info();
  std::vector<std::size_t> good;  // requests whose rows can be computed
  std::uint32_t rows = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Result<void> finite = wire::check_finite(requests[i].hidden.view(), info.residual);
    if (!finite) {
      results[i] = finite.error();
      continue;
    }
    good.push_back(i);
    rows += requests[i].count;
  }
  if (good.empty()) return {};

  std::vector<float> logits(std::size_t{rows} * info.vocab_size);
  if (good.size() == 1) {
    const LogitsRequest& only = requests[good[0]];
    const Result<void> computed = engine.logits(only.hidden.view(), rows, logits);
    if (!computed) return computed;
    results[good[0]] = std::move(logits);
    return {};
  }
  AlignedBuffer hidden(std::size_t{rows} * info.hidden_size * bytes_of(info.residual));
  std::byte* end = hidden.data();
  for (const std::size_t i : good) {
    const ByteView part = requests[i].hidden.view();
    std::memcpy(end, part.data(), part.size());
    end += part.size();
  }
  const Result<void> computed = engine.logits(hidden.view(), rows, logits);
  if (!computed) return computed;
  auto begin = logits.begin();
  for (const std::size_t i : good) {
    const auto stop = begin + static_cast<std::ptrdiff_t>(requests[i].count) * info.vocab_size;
    results[i] = std::vector<float>(begin, stop);
    begin = stop;
  }
  return {};
}

HeadQueue::Pass HeadQueue::take_logits() {
  const auto pass = std::make_shared<LogitsPass>();
  pass->requests = take(logits_);
  pass->results.assign(pass->requests.size(), Error{Errc::compute_failed, {}});
  Pass out;
  for (const LogitsRequest& request : pass->requests) out.rows += request.count;
  out.work = [pass, &engine = engine_] {
    const Result<void> ran = caught([&] { return pass->run(engine); });
    if (ran) return;
    for (auto& result : pass->results) {
      const bool refused = !result && result.error().code == Errc::bad_payload;
      if (!refused) result = ran.error();
    }
  };
  out.done = [pass] { pass->answer(); };
  return out;
}

}  // namespace farmesh::serve
