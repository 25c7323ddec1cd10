// A whole model in this process without weights: a stand-in engine behind a peer and a driver,
// real threads and a real network thread between them. What OpenModel is around a real engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <farmesh/session.hpp>

#include "client/open_turns.hpp"
#include "client/session_factory.hpp"
#include "client/shared_model.hpp"
#include "driver/peer_set.hpp"
#include "model/stand_in_engine.hpp"
#include "net/runtime.hpp"
#include "net/sim_transport.hpp"
#include "serve/compute.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::test {

inline constexpr std::uint32_t kLayers = 4;
inline constexpr std::uint32_t kContext = 512;
inline constexpr TokenId kEos = 2;

/// Each byte of a text is a token; the three special ones come first.
class ByteTokenizer final : public text::Tokenizer {
 public:
  ByteTokenizer() {
    for (TokenId id = 0; id < 97; ++id)
      bytes_.push_back(id < 3 ? "" : std::string(1, char(id + 29)));
  }
  Result<std::vector<TokenId>> encode(std::string_view text,
                                      const text::EncodeOptions& options) const override {
    std::vector<TokenId> ids;
    if (options.add_special) ids.push_back(1);
    for (const char c : text) {
      ids.push_back(TokenId(std::clamp<int>(static_cast<unsigned char>(c) - 29, 3, 96)));
    }
    return ids;
  }
  std::string_view token_bytes(TokenId id) const override {
    return id < bytes_.size() ? std::string_view(bytes_[id]) : std::string_view();
  }
  bool is_special(TokenId id) const override { return id < 3; }
  std::size_t vocab_size() const override { return bytes_.size(); }
  std::optional<TokenId> find(std::string_view) const override { return std::nullopt; }
  std::optional<TokenId> bos() const override { return 1; }
  std::optional<TokenId> eos() const override { return kEos; }
  bool strips_leading_space() const override { return false; }

 private:
  std::vector<std::string> bytes_;
};

/// Greedy ids after `ids`, one row at a time through one engine.
inline std::vector<TokenId> reference(std::vector<TokenId> ids, std::uint32_t tokens) {
  const auto engine = model::make_stand_in_engine({.blocks = {0, kLayers}, .head = true});
  REQUIRE(engine->reserve_pages(kContext / 4));
  std::vector<std::uint32_t> pages(kContext / 4);
  for (std::uint32_t i = 0; i < pages.size(); ++i) pages[i] = i;
  const std::size_t row_bytes = engine->info().hidden_size * sizeof(float);
  AlignedBuffer in(row_bytes);
  AlignedBuffer out(row_bytes);
  std::vector<float> logits(engine->info().vocab_size);
  const std::size_t prompt = ids.size();
  for (std::uint32_t position = 0; ids.size() < prompt + tokens; ++position) {
    REQUIRE(engine->embed(std::span(&ids[position], 1), in.view()));
    const model::SequenceRows row{pages, position, 1, in.view(), out.view()};
    REQUIRE(engine->forward({0, kLayers}, std::span(&row, 1)));
    if (position + 1 < ids.size()) continue;
    REQUIRE(engine->logits(out.view(), 1, logits));
    ids.push_back(TokenId(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return ids;
}

/// A worker with all layers and the head, on a compute thread.
inline std::unique_ptr<serve::Worker> make_worker(net::Runtime& runtime) {
  Result<std::unique_ptr<serve::Worker>> worker{Errc::ok};
  runtime.run_blocking([&] {
    worker =
        serve::Worker::create(model::make_stand_in_engine({.blocks = {0, kLayers}, .head = true}),
                              *serve::make_compute_thread(runtime.clock()), runtime.clock(), {});
  });
  REQUIRE(worker);
  return *std::move(worker);
}

inline serve::PeerOptions peer_options(const net::Runtime& runtime) {
  serve::PeerOptions options;
  options.node_id = runtime.node_id();
  options.num_layers = kLayers;
  return options;
}

/// What every session of the stand-in model shares, but for its peers.
inline client::SharedModel shared_model(net::Runtime& runtime, const serve::Worker& worker) {
  client::SharedModel shared;
  shared.runtime = &runtime;
  shared.tokenizer = std::make_shared<ByteTokenizer>();
  shared.num_layers = kLayers;
  shared.hidden_size = worker.info().hidden_size;
  shared.vocab_size = worker.info().vocab_size;
  shared.context_tokens = kContext;
  shared.page_tokens = worker.info().page_tokens;
  shared.residual = worker.info().residual;
  shared.eos_tokens = {kEos};
  shared.prefix_key.assign(32, 7);
  return shared;
}

class StandInModel {
 public:
  StandInModel() : worker_(make_worker(runtime_)), shared_(shared_model(runtime_, *worker_)) {
    runtime_.run_blocking([this] {
      local_peer_ = std::make_unique<serve::Peer>(runtime_.tcp(), *worker_, peer_options(runtime_));
      peers_ = std::make_unique<driver::PeerSet>(runtime_.tcp(), driver::PeerSetOptions{});
      turns_ = std::make_unique<client::OpenTurns>(runtime_.clock());
      shared_.peers = peers_.get();
      shared_.head = worker_.get();
      shared_.turns = turns_.get();
    });
    std::function<net::Task<Result<void>>()> add = [this] { return add_local(); };
    REQUIRE(runtime_.await_blocking<Result<void>>(std::move(add)));
  }

  ~StandInModel() {
    std::function<net::Task<void>()> close = [this] { return turns_->close_all(); };
    runtime_.await_blocking<void>(std::move(close));
    runtime_.run_blocking([this] {
      turns_.reset();
      peers_.reset();
      local_peer_.reset();
      worker_.reset();
    });
  }

  const client::SharedModel& shared() const { return shared_; }

  /// From here on the model guesses for itself, in sessions of its own.
  void guess_by_itself() {
    client::SharedDraft& draft = shared_.draft.emplace();
    draft.peers = peers_.get();
    draft.head = worker_.get();
    draft.options.num_layers = kLayers;
    draft.options.hidden_size = shared_.hidden_size;
    draft.options.vocab_size = shared_.vocab_size;
    draft.options.shared_ids = shared_.vocab_size;
    draft.options.max_position = kContext;
    draft.options.residual = shared_.residual;
  }

  std::uint64_t steps() {
    std::uint64_t steps = 0;
    runtime_.run_blocking([&] { steps = local_peer_->stats().steps; });
    return steps;
  }
  std::uint32_t sessions() {
    std::uint32_t sessions = 0;
    runtime_.run_blocking([&] { sessions = local_peer_->stats().sessions; });
    return sessions;
  }

 private:
  net::Task<Result<void>> add_local() {
    auto [driver_end, stage_end] =
        net::make_pipe(runtime_.clock(), "local", "driver", {}, runtime_.node_id());
    local_peer_->attach(std::move(stage_end));
    co_return co_await peers_->add_local("local", std::move(driver_end));
  }

  net::Runtime runtime_;
  std::unique_ptr<serve::Worker> worker_;
  std::unique_ptr<serve::Peer> local_peer_;
  std::unique_ptr<driver::PeerSet> peers_;
  std::unique_ptr<client::OpenTurns> turns_;
  client::SharedModel shared_;
};

}  // namespace farmesh::test
