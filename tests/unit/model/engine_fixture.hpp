// Engines for tests: loaded through the real loader, driven as a peer drives them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"

namespace farmesh::model::test {

/// Says where the build left the engine, unless the environment already does.
inline void find_engine_library() {
  ::setenv("FARMESH_TORCH_LIBRARY", FARMESH_BINARY_DIR "/bin/libfarmesh_torch.so", 0);
}

/// Sets an environment variable for as long as it lives.
class WithEnvironment {
 public:
  WithEnvironment(std::string key, const std::string& value) : key_(std::move(key)) {
    if (const char* before = std::getenv(key_.c_str())) before_ = before;
    ::setenv(key_.c_str(), value.c_str(), 1);
  }
  ~WithEnvironment() {
    if (before_.empty()) {
      ::unsetenv(key_.c_str());
    } else {
      ::setenv(key_.c_str(), before_.c_str(), 1);
    }
  }

 private:
  std::string key_, before_;
};

inline std::unique_ptr<StageEngine> load(const ModelConfig& config, const WeightSource& source,
                                         const EngineOptions& options, std::uint32_t pages = 64) {
  find_engine_library();
  Result<std::unique_ptr<StageEngine>> engine = load_engine(config, source, options);
  const std::string problem = engine ? "" : engine.error().to_string();
  REQUIRE_MESSAGE(engine, problem);
  REQUIRE((*engine)->reserve_pages(pages));
  return *std::move(engine);
}

using Bytes = std::vector<std::byte>;

/// A whole model as a chain of engines, the head a part of the first.
class Chain {
 public:
  Chain(const ModelConfig& config, const WeightSource& source, const std::vector<Span>& spans,
        EngineOptions options)
      : config_(config) {
    for (std::size_t i = 0; i < spans.size(); ++i) {
      options.blocks = spans[i];
      options.head = i == 0;
      engines_.push_back(load(config, source, options));
    }
  }

  StageEngine& engine(std::size_t i) { return *engines_[i]; }
  std::size_t row_bytes() const {
    return config_.hidden_size * bytes_of(engines_[0]->info().residual);
  }

  /// One session's rows through all layers: hidden states after the last.
  struct Step {
    std::vector<TokenId> ids;
    std::uint32_t position;
    std::vector<std::uint32_t> pages;
  };
  std::vector<Bytes> run(const std::vector<Step>& steps) {
    std::vector<Bytes> in(steps.size()), out(steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      in[i].resize(steps[i].ids.size() * row_bytes());
      out[i].resize(in[i].size());
      REQUIRE(engines_[0]->embed(steps[i].ids, in[i]));
    }
    for (const auto& engine : engines_) {
      std::vector<SequenceRows> batch;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        batch.push_back({steps[i].pages, steps[i].position,
                         static_cast<std::uint32_t>(steps[i].ids.size()), in[i], out[i]});
      }
      const Result<void> done = engine->forward(engine->info().blocks, batch);
      const std::string problem = done ? "" : done.error().to_string();
      REQUIRE_MESSAGE(done, problem);
      std::swap(in, out);
    }
    return in;
  }

  /// Logits of the last row.
  std::vector<float> logits(const Bytes& hidden) {
    std::vector<float> out(config_.vocab_size);
    const ByteView last = ByteView(hidden).last(row_bytes());
    REQUIRE(engines_[0]->logits(last, 1, out));
    return out;
  }

 private:
  const ModelConfig& config_;
  std::vector<std::unique_ptr<StageEngine>> engines_;
};

inline std::vector<std::uint32_t> pages_from(std::uint32_t first, std::uint32_t count) {
  std::vector<std::uint32_t> pages(count);
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

inline TokenId argmax(const std::vector<float>& logits) {
  TokenId best = 0;
  for (TokenId id = 1; id < logits.size(); ++id) {
    if (logits[id] > logits[best]) best = id;
  }
  return best;
}

/// The prompt and greedy continuation, `count` ids in all; the prompt goes in `chunk` at a time.
inline std::vector<TokenId> greedy(Chain& chain, std::vector<TokenId> ids, std::size_t count,
                                   std::size_t chunk, const std::vector<std::uint32_t>& pages) {
  Bytes hidden;
  for (std::size_t at = 0; at < ids.size(); at += chunk) {
    const auto end = std::min(ids.size(), at + chunk);
    hidden = chain.run({{{ids.begin() + static_cast<std::ptrdiff_t>(at),
                          ids.begin() + static_cast<std::ptrdiff_t>(end)},
                         static_cast<std::uint32_t>(at),
                         pages}})[0];
  }
  while (ids.size() < count) {
    ids.push_back(argmax(chain.logits(hidden)));
    if (ids.size() == count) break;
    hidden = chain.run({{{ids.back()}, static_cast<std::uint32_t>(ids.size() - 1), pages}})[0];
  }
  return ids;
}

}  // namespace farmesh::model::test
