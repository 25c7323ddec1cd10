// A model as the gateway sees it: prompts go in, tokens come out. What the coordinator serves is a
// DistributedModel behind this face (cli/); tests put a scripted one there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <farmesh/model.hpp>
#include <farmesh/result.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

namespace farmesh::gateway {

/// A raw text, token ids as they are, or a conversation for the chat template.
using TurnPrompt = std::variant<std::string, std::vector<TokenId>, std::vector<ChatMessage>>;

struct TurnInput {
  TurnPrompt prompt;
  GenerateOptions options;
};

/// Who makes a turn's tokens.
enum class Origin : std::uint8_t {
  mesh,
  fallback,  // the operator's own machine, in the mesh's stead
  upstream,  // another server, in the mesh's stead: its tokens have no ids
};

/// The tokens of one turn; the rules are those of farmesh::TokenStream. Destroying it cancels.
class TurnTokens {
 public:
  virtual ~TurnTokens() = default;
  /// Waits. Nothing at the end.
  virtual Result<std::optional<Token>> next() = 0;
  virtual void cancel() = 0;  // from any thread
  virtual Usage usage() const = 0;
  /// Of the tokens so far; settled once the first has come. From any thread.
  virtual Origin origin() const { return Origin::mesh; }
};

struct ModelState {
  ModelSummary summary;
  bool local = false;        // every layer is in this process
  bool remote_head = false;  // a peer hosts the head too
};

/// Thread-safe.
class Model {
 public:
  virtual ~Model() = default;
  /// Never null: what fails is told by the stream.
  virtual std::unique_ptr<TurnTokens> start(const TurnInput& input) = 0;
  virtual ModelState state() const = 0;
  /// The ledger's name of a hop's peer; empty for the operator's own process.
  virtual std::string node_id(const std::string& peer) const = 0;
  /// Asks its nodes once more for receipts of a session that an earlier process drove.
  virtual void ask_receipts(const std::shared_ptr<driver::Bill>&) {}
  /// Empty for special tokens and ids outside the vocabulary.
  virtual std::string token_bytes(TokenId id) const = 0;
};

}  // namespace farmesh::gateway
