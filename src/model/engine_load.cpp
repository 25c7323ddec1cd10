#include "model/engine_load.hpp"

#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

namespace farmesh::model {

double step_bytes(const EngineInfo& info, const LoadShape& shape) {
  const double cache = static_cast<double>(info.page_bytes) / info.page_tokens * shape.context;
  return static_cast<double>(info.step_bytes) + cache * shape.sessions;
}

double step_operations(const ModelConfig& c, const LoadShape& shape) {
  const double hidden = c.hidden_size;
  const double mlp = (c.gated_mlp ? 3.0 : 2.0) * hidden * c.intermediate_size;
  const double attention = hidden * (2.0 * c.q_size() + 2.0 * c.kv_size());
  // Row i sees context + i + 1 positions, once for its scores and once for its values.
  const double seen = shape.context + (shape.rows_each + 1.0) / 2.0;
  const double row = c.num_layers * (attention + mlp + 2.0 * seen * c.q_size());
  const double head = hidden * c.vocab_size;
  return 2.0 * shape.sessions * (shape.rows_each * row + head);
}

EngineLoad::EngineLoad(StageEngine& engine, const ModelConfig& config, const LoadShape& shape)
    : engine_(engine), sessions_(shape.sessions) {
  const std::size_t row_bytes = config.hidden_size * bytes_of(engine.info().residual);
  const std::size_t rows = std::size_t{shape.sessions} * shape.rows_each;
  ids_.resize(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    ids_[i] = static_cast<TokenId>((i + 5) % config.vocab_size);
  }
  in_.resize(rows * row_bytes);
  out_.resize(in_.size());
  logits_.resize(std::size_t{shape.sessions} * config.vocab_size);
  last_.resize(shape.sessions * row_bytes);
  const std::uint32_t pages = shape.pages_each(engine.info().page_tokens);
  pages_.resize(std::size_t{shape.sessions} * pages);
  std::iota(pages_.begin(), pages_.end(), 0);
  for (std::uint32_t s = 0; s < shape.sessions; ++s) {
    const std::size_t bytes = shape.rows_each * row_bytes;
    batch_.push_back({std::span(pages_).subspan(std::size_t{s} * pages, pages), shape.context,
                      shape.rows_each, ByteView(in_).subspan(s * bytes, bytes),
                      MutableByteView(out_).subspan(s * bytes, bytes)});
  }
}

Result<double> EngineLoad::run() {
  if (!filled_) {
    if (const Result<void> done = fill_cache(); !done) return done.error();
    filled_ = true;
  }
  const auto begin = std::chrono::steady_clock::now();
  if (const Result<void> done = step(); !done) return done.error();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Memory that was never written would be read from nowhere: every page before the step gets the
/// bytes of one that was computed.
Result<void> EngineLoad::fill_cache() {
  const std::uint32_t page = engine_.info().page_tokens;
  if (batch_.front().position < page) return {};
  std::vector<std::byte> in(page * (in_.size() / ids_.size()));
  std::vector<std::byte> out(in.size());
  std::vector<TokenId> ids(page);
  std::iota(ids.begin(), ids.end(), 0);
  if (Result<void> done = engine_.embed(ids, in); !done) return done;
  const SequenceRows rows{std::span(pages_).first(1), 0, page, in, out};
  if (Result<void> done = engine_.forward(engine_.info().blocks, {&rows, 1}); !done) return done;
  for (const std::uint32_t other : std::span(pages_).subspan(1)) {
    if (Result<void> done = engine_.copy_page(pages_.front(), other); !done) return done;
  }
  return {};
}

Result<void> EngineLoad::step() {
  if (Result<void> done = engine_.embed(ids_, in_); !done) return done;
  if (Result<void> done = engine_.forward(engine_.info().blocks, batch_); !done) return done;
  const std::size_t row = last_.size() / sessions_;
  for (std::uint32_t s = 0; s < sessions_; ++s) {
    std::memcpy(last_.data() + s * row, batch_[s].output.last(row).data(), row);
  }
  if (Result<void> done = engine_.logits(last_, sessions_, logits_); !done) return done;
  if (!std::isfinite(logits_[0])) return {Errc::compute_failed, "a logit is no number"};
  return {};
}

}  // namespace farmesh::model
