// A small model wholly in this process, to guess for another: its stage, with a compute thread of
// its own, and the driver's way to it.
//
// Made by open_model.hpp. Threading: loaded on a caller's thread, destroyed on the network thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

#include "client/shared_model.hpp"
#include "driver/peer_set.hpp"
#include "net/runtime.hpp"
#include "node/stage.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"
#include "text/tokenizer.hpp"
#include "weights/model_source.hpp"

namespace farmesh::node {

/// How many ids, from 0 on, are the same tokens to both. Fails with config_mismatch, naming the
/// first that is not.
Result<std::uint32_t> shared_ids(const text::Tokenizer& model, const text::Tokenizer& draft);

class DraftStage {
 public:
  /// `source` and what of `options` says how to compute; `tokenizer` is that of the model which
  /// verifies. Blocks. Fails as load_stage(), as load_tokenizer(), and with config_mismatch where
  /// the small model has other tokens.
  static Result<std::unique_ptr<DraftStage>> load(StageOptions options,
                                                  const text::Tokenizer& tokenizer,
                                                  net::Runtime& runtime);

  /// What sessions guess with.
  const client::SharedDraft& shared() const noexcept { return shared_; }

 private:
  DraftStage() = default;
  net::Task<Result<void>> connect(net::Runtime& runtime, const Stage& stage);

  // In the order of making.
  std::unique_ptr<serve::Worker> worker_;
  std::unique_ptr<serve::Peer> peer_;
  std::unique_ptr<driver::PeerSet> peers_;
  client::SharedDraft shared_;
};

}  // namespace farmesh::node
