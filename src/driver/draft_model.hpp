// Guesses by a small model that this process holds whole: the likeliest token, and again, as far
// as is asked.
//
// It has a session of its own on that model, whose cache follows the ids that were verified: what
// they share with the last guess stays, what was guessed wrong is forgotten, what is new is read.
// It never keeps a step waiting for long: many rows to read, as of a prompt, are read in the
// background, without a guess until then; and once it has failed it guesses no more, and says so
// in the log. Used by guesses.hpp. Threading: confined to the peer set's executor.
#pragma once

#include <cstdint>
#include <memory>

#include "driver/chain.hpp"
#include "driver/guesser.hpp"
#include "driver/peer_set.hpp"
#include "wire/head.hpp"

namespace farmesh::driver {

struct DraftModelOptions {
  SessionId session;
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t shared_ids = 0;    // ids below this mean the same to the model that verifies
  std::uint32_t max_position = 0;  // the small model's context: no guess reaches beyond
  DType residual = DType::bf16;
};

class DraftModel final : public Guesser {
 public:
  /// `peers`, who hold all of the small model, and `head`, its head, outlive the object.
  DraftModel(PeerSet& peers, wire::Head& head, const DraftModelOptions& options);
  ~DraftModel() override;  // frees its session's pages, without waiting

  void guess(std::span<const TokenId> ids, std::uint32_t most, Done done) override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the guess under way
};

}  // namespace farmesh::driver
