// What all sessions of one model share: its words, its sizes, its peers, and maybe its head.
//
// Made by node/, which knows weights and engines; used here, where neither is known.
// Threading: immutable after it is made, but for peer_addresses, which the network thread has to
// itself; what the pointers lead to is confined to that thread, except the tokenizer and the
// template.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/types.hpp"
#include "client/open_turns.hpp"
#include "driver/draft_model.hpp"
#include "driver/peer_set.hpp"
#include "net/runtime.hpp"
#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"
#include "wire/head.hpp"

namespace farmesh::client {

/// A small model in this process that guesses for the other.
struct SharedDraft {
  driver::PeerSet* peers = nullptr;   // who hold it
  wire::Head* head = nullptr;         // its own
  driver::DraftModelOptions options;  // each session's id is its own
};

struct SharedModel {
  net::Runtime* runtime = nullptr;
  driver::PeerSet* peers = nullptr;
  wire::Head* head = nullptr;  // null: a peer hosts it
  OpenTurns* turns = nullptr;
  std::optional<SharedDraft> draft;

  std::shared_ptr<const text::Tokenizer> tokenizer;
  Result<text::ChatTemplate> chat_template{Errc::model_not_found, "the model has no chat template"};

  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens = 0;
  std::uint32_t page_tokens = 0;  // 0: prefixes are not shared
  DType residual = DType::bf16;
  std::vector<TokenId> eos_tokens;
  std::vector<std::uint8_t> prefix_key;  // what page names are made with

  std::vector<std::string> peer_addresses;  // told to a head on a peer

  /// Of a session that was opened with SessionOptions::context_tokens.
  std::uint32_t context_of(std::uint32_t wanted) const {
    return wanted == 0 ? context_tokens : std::min(wanted, context_tokens);
  }
};

}  // namespace farmesh::client
