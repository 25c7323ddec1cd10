// An engine that also tells how fast it is, as a node says of itself in its record.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "model/stage_engine.hpp"

namespace farmesh::node {

/// What one row takes through one layer: of the first passes the shortest, since what else the
/// machine does only makes one longer, then a moving mean, which no single pass moves by more than
/// an eighth upwards. Passes of one row count as they are; before there was one, larger passes are
/// shared among their rows. Written by the compute thread, read by any.
class LayerSpeed {
 public:
  static constexpr std::uint32_t kFirstPasses = 8;  // of one row

  std::uint32_t layer_us() const noexcept {
    const std::uint64_t time = time_ns_;
    return time == 0 ? 0 : std::uint32_t(std::clamp<std::uint64_t>(time / 1'000, 1, UINT32_MAX));
  }

  /// As if it had been measured: before any pass.
  void assume(std::uint32_t layer_us) noexcept {
    time_ns_ = std::uint64_t{layer_us} * 1'000;
    single_passes_ = kFirstPasses;
  }

  void passed(std::chrono::nanoseconds time, std::uint32_t rows, std::uint32_t layers) noexcept {
    if (rows == 0 || layers == 0 || (rows > 1 && single_passes_ > 0)) return;
    const double sample = double(time.count()) / (double(rows) * layers);
    const auto before = double(time_ns_.load());
    const bool first = before == 0 || (rows == 1 && single_passes_ == 0);
    const bool early = single_passes_ < kFirstPasses;
    if (rows == 1 && early) ++single_passes_;
    double now = sample;
    if (!first) {
      now = early ? std::min(before, sample) : before + (std::min(sample, 2 * before) - before) / 8;
    }
    time_ns_ = std::uint64_t(std::max(1.0, now));
  }

 private:
  std::atomic<std::uint64_t> time_ns_ = 0;  // 0: not measured
  std::uint32_t single_passes_ = 0;         // that were counted, of the first ones
};

class MeasuredEngine final : public model::StageEngine {
 public:
  MeasuredEngine(std::unique_ptr<model::StageEngine> engine, std::shared_ptr<LayerSpeed> speed)
      : engine_(std::move(engine)), speed_(std::move(speed)) {}

  const model::EngineInfo& info() const noexcept override { return engine_->info(); }
  Result<void> reserve_pages(std::uint32_t count) override { return engine_->reserve_pages(count); }
  Result<void> forward(Span blocks, std::span<const model::SequenceRows> batch) override {
    const auto began = std::chrono::steady_clock::now();
    Result<void> done = engine_->forward(blocks, batch);
    std::uint32_t rows = 0;
    for (const model::SequenceRows& sequence : batch) rows += sequence.rows;
    if (done) speed_->passed(std::chrono::steady_clock::now() - began, rows, blocks.size());
    return done;
  }
  Result<void> copy_page(std::uint32_t from, std::uint32_t to) override {
    return engine_->copy_page(from, to);
  }
  Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) override {
    return engine_->embed(ids, hidden);
  }
  Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) override {
    return engine_->logits(hidden, rows, logits);
  }

 private:
  const std::unique_ptr<model::StageEngine> engine_;
  const std::shared_ptr<LayerSpeed> speed_;
};

}  // namespace farmesh::node
