#include "model/torch/engine.hpp"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

namespace farmesh::model {
namespace {

// More rows than this run in several passes: it bounds scratch memory, and by then reading the
// weights again costs nothing beside the arithmetic.
constexpr std::int64_t kMaxPassRows = 512;

/// Runs `body`, turning whatever libtorch or the allocator throws into an Error.
template <class Body>
Result<void> guarded(Errc on_failure, const Body& body) {
  try {
    body();
    return {};
  } catch (const std::bad_alloc&) {
    return {on_failure, "not enough memory"};
  } catch (const c10::Error& error) {
    return {on_failure, error.what_without_backtrace()};
  } catch (const std::exception& error) {
    return {on_failure, error.what()};
  }
}

}  // namespace

Engine::Engine(const ModelConfig& config, const WeightSource& source, const EngineOptions& options,
               std::unique_ptr<Ops> ops, std::string numerics_class)
    : config_(config), ops_(std::move(ops)) {
  WeightLoader weights(config_, source, *ops_,
                       required_tensors(config_, options.blocks, options.head), options);
  if (options.head) {
    head_.embedding = weights.matrix({"model.embed_tokens"}, MatrixRole::vocabulary);
    head_.norm = weights.norm("model.norm");
    head_.lm_head = config_.tied_embeddings ? head_.embedding
                                            : weights.matrix({"lm_head"}, MatrixRole::vocabulary);
  }
  for (std::uint32_t layer = options.blocks.begin; layer < options.blocks.end; ++layer) {
    blocks_.emplace_back(config_, layer, weights);
  }
  info_.blocks = options.blocks;
  info_.head = options.head;
  info_.residual = residual_dtype(options.precision);
  info_.hidden_size = config_.hidden_size;
  info_.vocab_size = config_.vocab_size;
  info_.page_tokens = kPageTokens;
  info_.page_bytes = ops_->page_bytes() * options.blocks.size();
  info_.weight_bytes = weights.resident_bytes();
  const bool own_table = options.head && !config_.tied_embeddings;
  info_.step_bytes = info_.weight_bytes - (own_table ? head_.embedding->bytes() : 0);
  info_.numerics_class = std::move(numerics_class);
}

std::uint64_t Engine::row_bytes() const noexcept {
  return std::uint64_t{config_.hidden_size} * bytes_of(info_.residual);
}

Result<void> Engine::reserve_pages(std::uint32_t count) {
  if (pages_ != 0) return {Errc::invalid_argument, "pages were reserved before"};
  Result<void> reserved = guarded(Errc::out_of_memory, [&] {
    for (std::size_t i = 0; i < blocks_.size(); ++i) caches_.push_back(ops_->cache(count));
  });
  if (reserved) {
    pages_ = count;
  } else {
    caches_.clear();
  }
  return reserved;
}

Result<void> Engine::check(Span blocks, const SequenceRows& sequence) const {
  if (blocks.empty() || !info_.blocks.contains(blocks)) {
    return {Errc::invalid_argument, "these layers are not held by this engine"};
  }
  const std::uint64_t bytes = sequence.rows * row_bytes();
  if (sequence.input.size() != bytes || sequence.output.size() != bytes) {
    return {Errc::invalid_argument, "input or output is not rows times the hidden size"};
  }
  const std::uint64_t end = std::uint64_t{sequence.position} + sequence.rows;
  const std::uint64_t needed = (end + kPageTokens - 1) / kPageTokens;
  if (sequence.pages.size() < needed) return {Errc::invalid_argument, "too few KV pages"};
  for (const std::uint32_t page : sequence.pages.first(needed)) {
    if (page >= pages_) return {Errc::invalid_argument, "a KV page was never reserved"};
  }
  return {};
}

Result<void> Engine::forward(Span blocks, std::span<const SequenceRows> batch) {
  for (const SequenceRows& sequence : batch) {
    if (Result<void> fits = check(blocks, sequence); !fits) return fits;
  }
  return guarded(Errc::compute_failed, [&] {
    const auto pass = ops_->begin_pass();
    Batch slice;
    std::vector<ByteView> inputs;
    std::vector<MutableByteView> outputs;
    const auto flush = [&] {
      if (slice.rows > 0) run_slice(blocks, slice, outputs, inputs);
      slice = {};
      inputs.clear();
      outputs.clear();
    };
    for (const SequenceRows& sequence : batch) {
      for (std::int64_t done = 0; done < sequence.rows;) {
        const std::int64_t rows =
            std::min<std::int64_t>(sequence.rows - done, kMaxPassRows - slice.rows);
        const std::uint64_t offset = static_cast<std::uint64_t>(done) * row_bytes();
        const std::uint64_t bytes = static_cast<std::uint64_t>(rows) * row_bytes();
        slice.sequences.push_back({sequence.pages, sequence.position + done, rows, slice.rows});
        inputs.push_back(sequence.input.subspan(offset, bytes));
        outputs.push_back(sequence.output.subspan(offset, bytes));
        slice.rows += rows;
        done += rows;
        if (slice.rows == kMaxPassRows) flush();
      }
    }
    flush();
  });
}

void Engine::run_slice(Span blocks, const Batch& batch, std::span<const MutableByteView> outputs,
                       std::span<const ByteView> inputs) {
  const Workspace at = workspace(batch.rows);
  ops_->read_residual(inputs, at.hidden);
  const std::uint64_t layers = std::uint64_t{blocks.begin} << 32 | blocks.end;
  ops_->run(batch, layers, [this, blocks, at](const Batch& rows) {
    for (std::uint32_t layer = blocks.begin; layer < blocks.end; ++layer) {
      const std::size_t index = layer - info_.blocks.begin;
      blocks_[index].forward(*ops_, rows, caches_[index], at);
    }
  });
  ops_->write_residual(at.hidden, outputs);
}

Workspace Engine::workspace(std::int64_t rows) {
  if (rows > workspace_rows_) {
    workspace_ = {};
    workspace_ = Workspace::make(*ops_, config_, rows);
    workspace_rows_ = rows;
  }
  return workspace_.first(rows);
}

Result<void> Engine::copy_page(std::uint32_t from, std::uint32_t to) {
  if (from >= pages_ || to >= pages_) {
    return {Errc::invalid_argument, "a KV page was never reserved"};
  }
  return guarded(Errc::compute_failed, [&] {
    const auto pass = ops_->begin_pass();
    for (const LayerCache& cache : caches_) {
      cache.keys.select(0, to).copy_(cache.keys.select(0, from));
      cache.values.select(0, to).copy_(cache.values.select(0, from));
    }
  });
}

Result<void> Engine::embed(std::span<const TokenId> ids, MutableByteView hidden) {
  if (!info_.head) return {Errc::head_unavailable, "this engine holds no head"};
  if (hidden.size() != ids.size() * row_bytes()) {
    return {Errc::invalid_argument, "the output is not one row an id"};
  }
  for (const TokenId id : ids) {
    if (id >= config_.vocab_size) return {Errc::bad_payload, "token id outside the vocabulary"};
  }
  return guarded(Errc::compute_failed, [&] {
    const auto pass = ops_->begin_pass();
    for (std::size_t done = 0; done < ids.size(); done += kMaxPassRows) {
      const auto part = ids.subspan(done, std::min<std::size_t>(kMaxPassRows, ids.size() - done));
      const Workspace at = workspace(static_cast<std::int64_t>(part.size()));
      ops_->embed(*head_.embedding, part, at.hidden);
      const MutableByteView out = hidden.subspan(done * row_bytes(), part.size() * row_bytes());
      ops_->write_residual(at.hidden, {&out, 1});
    }
  });
}

Result<void> Engine::logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) {
  if (!info_.head) return {Errc::head_unavailable, "this engine holds no head"};
  if (hidden.size() != rows * row_bytes() ||
      logits.size() != std::size_t{rows} * config_.vocab_size) {
    return {Errc::invalid_argument, "hidden or logits do not have this many rows"};
  }
  return guarded(Errc::compute_failed, [&] {
    const auto pass = ops_->begin_pass();
    const std::int64_t vocab = config_.vocab_size;
    for (std::int64_t done = 0; done < rows; done += kMaxPassRows) {
      const std::int64_t count = std::min<std::int64_t>(kMaxPassRows, rows - done);
      const Workspace at = workspace(count);
      const std::uint64_t offset = static_cast<std::uint64_t>(done) * row_bytes();
      const ByteView in = hidden.subspan(offset, static_cast<std::uint64_t>(count) * row_bytes());
      ops_->read_residual({&in, 1}, at.hidden);
      ops_->norm(at.hidden, head_.norm, at.normed);
      ops_->logits(at.normed, *head_.lm_head,
                   logits.subspan(static_cast<std::size_t>(done * vocab),
                                  static_cast<std::size_t>(count * vocab)));
    }
  });
}

}  // namespace farmesh::model
