// The generation loop. Its whole state is token ids, a position and a seed, so that another
// head can take over from the ids alone.
//
// Takes ids from client/, hidden states from the head, rows from chain.hpp, picks a token with
// sampling/, and hands it on. Threading: confined to the peer set's executor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>

#include "driver/chain.hpp"
#include "driver/guesser.hpp"
#include "driver/peer_set.hpp"
#include "net/task.hpp"
#include "wire/head.hpp"
#include "wire/messages.hpp"

namespace farmesh::driver {

struct GeneratorOptions {
  SessionId session;
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t max_position = 0;  // the model's context in tokens
  std::uint32_t page_tokens = 0;   // 0: no prefix sharing
  DType residual = DType::bf16;
  std::vector<std::uint8_t> prefix_key;  // one per tenant; empty: no prefix sharing
  ChainOptions chain;                    // session and sizes are filled in from above
  std::shared_ptr<Guesser> draft_model;  // guesses besides prompt lookup; may be null
};

struct Turn {
  std::vector<TokenId> ids;      // appended to the session's before generating
  std::uint32_t emitted = 0;     // the last ids of the session that are output of this very turn
  std::uint32_t max_tokens = 0;  // including those; clipped to the context; 0 runs the prompt only
  SamplingOptions sampling;
  std::vector<TokenId> stop_tokens;  // the token that stops is reported, then the turn ends
  /// Most tokens that are guessed ahead (guesses.hpp) and verified in one step; 0: none. The
  /// tokens told are the same with and without, sampled ones too: each is drawn from the model's
  /// own logits by the randomness of its position, and a guess only counts where it is that token.
  std::uint32_t max_draft = 0;
};

/// Tells what was generated; false cancels the turn.
using OnToken = std::function<bool(const wire::TokenMessage&)>;

class Generator {
 public:
  /// `peers` and `head` must outlive the generator.
  Generator(PeerSet& peers, wire::Head& head, GeneratorOptions options,
            std::function<void(const ChainEvent&)> on_event = {});
  ~Generator();

  /// Runs one turn, one at a time; the cache stays for the next. `on_token` is called for each
  /// token, numbered from turn.emitted, and not for the end; the token that stops is told too.
  /// Gives cancelled after cancel(), or when `on_token` says so. Fails with context_exceeded (the
  /// ids alone do not fit), invalid_argument (no ids at all, an id outside the vocabulary, an
  /// option outside its range), no_route, compute_failed (the head gave no numbers). After a
  /// failure the ids, with those told, stay: a turn without new ids goes on from there.
  net::Task<Result<wire::Finish>> generate(Turn turn, OnToken on_token);

  /// Ends the turn in progress and frees every peer's pages at once. The next turn opens the
  /// chain again.
  void cancel();

  const std::vector<TokenId>& ids() const noexcept;  // all of the session, prompts and output
  std::vector<HopReport> hops() const;
  std::vector<CommittedRows> committed() const;  // of all turns, in order
  std::uint32_t recoveries() const noexcept;
  std::uint32_t numerics_changes() const noexcept;  // as Chain has it

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the turn in progress
};

}  // namespace farmesh::driver
