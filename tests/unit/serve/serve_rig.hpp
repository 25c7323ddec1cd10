// What serve's tests share: the stand-in model, rows of it, and what a session alone computes.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.hpp"
#include "model/stand_in_engine.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve::test {

inline constexpr Span kAllLayers{0, 6};
inline constexpr std::uint32_t kPageTokens = 4;

using Tokens = std::vector<TokenId>;
using Bytes = std::vector<std::byte>;

inline std::unique_ptr<model::StageEngine> make_engine(Span blocks = kAllLayers) {
  model::StandInOptions options;
  options.blocks = blocks;
  options.head = true;
  options.page_tokens = kPageTokens;
  return model::make_stand_in_engine(options);
}

inline constexpr std::size_t kRowBytes = 16 * sizeof(float);

inline Payload embed(const Tokens& ids) {
  const auto engine = make_engine();
  AlignedBuffer rows(ids.size() * kRowBytes);
  REQUIRE(engine->embed(ids, rows.view()));
  return Payload(std::move(rows));
}

inline Bytes bytes_of(ByteView view) { return {view.begin(), view.end()}; }
inline Bytes bytes_of(const Payload& payload) { return bytes_of(payload.view()); }

/// `count` tokens that look random and depend on `seed`.
inline Tokens text(std::uint32_t seed, std::size_t count) {
  Tokens ids;
  for (std::uint32_t i = 0; i < count; ++i) ids.push_back((seed * 31 + i * i * 7 + i) % 97);
  return ids;
}

/// The stand-in engine, counting passes and failing on request.
class ProbeEngine final : public model::StageEngine {
 public:
  struct Log {
    int forwards = 0;
    int embeds = 0;
    int logits = 0;
    std::vector<std::uint32_t> batch_rows;  // of each forward pass
    std::function<Result<void>()> before;   // called in every pass; an error fails it
    bool out_of_memory = false;
  };

  explicit ProbeEngine(std::shared_ptr<Log> log, Span blocks = kAllLayers, bool head = true)
      : log_(std::move(log)), engine_(make_engine(blocks)), info_(engine_->info()) {
    info_.head = head;
  }

  const model::EngineInfo& info() const noexcept override { return info_; }
  Result<void> reserve_pages(std::uint32_t count) override {
    if (log_->out_of_memory) return Errc::out_of_memory;
    return engine_->reserve_pages(count);
  }
  Result<void> forward(Span blocks, std::span<const model::SequenceRows> batch) override {
    ++log_->forwards;
    std::uint32_t rows = 0;
    for (const auto& sequence : batch) rows += sequence.rows;
    log_->batch_rows.push_back(rows);
    const Result<void> ready = before();
    return ready ? engine_->forward(blocks, batch) : ready;
  }
  Result<void> copy_page(std::uint32_t from, std::uint32_t to) override {
    return engine_->copy_page(from, to);
  }
  Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) override {
    ++log_->embeds;
    const Result<void> ready = before();
    return ready ? engine_->embed(ids, hidden) : ready;
  }
  Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) override {
    ++log_->logits;
    const Result<void> ready = before();
    return ready ? engine_->logits(hidden, rows, logits) : ready;
  }

 private:
  Result<void> before() { return log_->before ? log_->before() : Result<void>(); }

  std::shared_ptr<Log> log_;
  std::unique_ptr<model::StageEngine> engine_;
  model::EngineInfo info_;
};

/// A session by itself: what any peer that serves it among others must compute, bit by bit.
class Solo {
 public:
  explicit Solo(Span blocks = kAllLayers, std::uint32_t max_positions = 1'024)
      : blocks_(blocks), engine_(make_engine(blocks)) {
    const std::uint32_t pages = (max_positions + kPageTokens - 1) / kPageTokens;
    REQUIRE(engine_->reserve_pages(pages));
    pages_.resize(pages);
    std::iota(pages_.begin(), pages_.end(), 0u);
  }

  Bytes run(std::uint32_t position, ByteView input) {
    Bytes output(input.size());
    const model::SequenceRows rows{
        pages_, position, static_cast<std::uint32_t>(input.size() / kRowBytes), input, output};
    REQUIRE(engine_->forward(blocks_, {&rows, 1}));
    return output;
  }
  Bytes run(std::uint32_t position, const Payload& input) { return run(position, input.view()); }

 private:
  Span blocks_;
  std::unique_ptr<model::StageEngine> engine_;
  std::vector<std::uint32_t> pages_;
};

inline SessionId session_id(std::uint32_t number) {
  SessionId id;
  std::memcpy(id.bytes.data() + 4, &number, sizeof number);
  return id;
}

inline wire::NodeId node_id(std::uint8_t number) {
  wire::NodeId id{};
  id[0] = number;
  return id;
}

/// As a driver names pages: each name stands for all tokens up to the end of its page.
inline std::vector<PageName> names_of(const Tokens& tokens) {
  std::vector<PageName> names;
  std::uint64_t hash = 14695981039346656037u;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    hash = (hash ^ tokens[i]) * 1099511628211u;
    if ((i + 1) % kPageTokens != 0) continue;
    PageName name;
    std::memcpy(name.bytes.data(), &hash, sizeof hash);
    names.push_back(name);
  }
  return names;
}

}  // namespace farmesh::serve::test
