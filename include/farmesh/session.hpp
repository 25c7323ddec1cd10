// A conversation with a model: prompts go in, tokens stream out, one cache serves every turn.
//
// Opened by DistributedModel::open_session() (model.hpp). A Session runs one turn at a time; its
// TokenStream is read by one thread, and cancel() may come from any. Different sessions are
// independent. Calls block; only TokenStream::on_ready() calls back on a thread of the library's.
// After fork() the child may only destroy these objects: everything else fails with unsupported.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <farmesh/activations.hpp>
#include <farmesh/export.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>
#include <farmesh/types.hpp>

namespace farmesh::driver {
class Bill;
struct NodeChoice;
}  // namespace farmesh::driver

namespace farmesh::inline FARMESH_ABI {

struct SessionOptions {
  /// Most tokens of the session, prompts and output of all turns; 0: the model's whole context.
  /// Peers promise cache for each turn's prompt and max_tokens, within this.
  std::uint32_t context_tokens = 0;
  /// Tokens that may wait for a slow reader. When they do, generation pauses; with a head on a
  /// peer it goes on, and the rest of the turn waits here.
  std::uint32_t buffer_tokens = 64;
  /// Keeps a spare peer's cache warm behind every stage, where there is one: a lost peer is then
  /// replaced without a replay. Costs the spare as much as the stage.
  bool warm_standby = false;
  /// What hidden states travel in on the session's way through the peers. Peers of an earlier
  /// version, which know no int8, are not used for a session that asks for it; a head on such a
  /// peer goes on with the residual's own.
  Activations activations = Activations::residual;
};

struct GenerateOptions {
  std::uint32_t max_tokens = 512;  // clipped to the context; 0 runs the prompt only
  SamplingOptions sampling;
  /// The text ends before the first of these and never holds a part of one: text that may be
  /// the beginning of one is held back until the next token decides. At most 16, each of 1 to
  /// 256 bytes.
  std::vector<std::string> stop;
  bool ignore_eos = false;  // goes on after the model's end-of-text token
  /// The first tokens of this turn's output, made before and elsewhere: the turn goes on behind
  /// them, with the same tokens that an unbroken one would have. They are told again first, at
  /// once and without log-probabilities; max_tokens counts them, Usage does not.
  std::vector<TokenId> resume;
  /// Most tokens that are guessed ahead, from how the text went on before and by a draft model
  /// (ModelOptions), and verified in one step; no more than 16 are. The tokens are the same with
  /// and without, sampled ones too. Pays over long links, for text that repeats itself and with a
  /// draft model that is often right; a wrong guess costs its rows. 0: none.
  std::uint32_t max_draft = 0;
  std::string traceparent;  // W3C trace context, told to every peer of the turn; may be empty
  /// What pays the peers, as the coordinator makes it: they get its grant and send it receipts.
  /// Null: nobody pays, and peers that want to be paid refuse. Not with a head on a peer.
  std::shared_ptr<driver::Bill> bill;
  /// Whose layers may be used, as the coordinator makes it. Null: anybody's. Fails with
  /// unsupported with a head on a peer, which chooses for itself.
  std::shared_ptr<const driver::NodeChoice> nodes;
};

/// One message of a chat, as the model's own template names the roles.
struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;
};

struct Token {
  TokenId id = 0;
  /// Text that became complete with this token, in whole UTF-8 characters: often a word, at
  /// times nothing (half a character, held back for `stop`, or a special token).
  std::string text;
  float logprob = 0;              // natural logarithm, of the model's unmodified distribution
  std::vector<TokenLogprob> top;  // SamplingOptions::top_logprobs of them, likeliest first
};

enum class FinishReason : std::uint8_t {
  none = 0,       // still running, or ended by an error
  stop = 1,       // an end-of-text token or a stop string
  length = 2,     // max_tokens, or the end of the context
  cancelled = 3,  // by the caller
};
/// "stop", "length", "cancelled"; "none".
FARMESH_API std::string_view name(FinishReason reason) noexcept;

/// One stage of the route as the turn last used it.
struct HopUsage {
  std::string peer;  // its address; "local" for the layers of this process
  Span span;
  double ms = 0;  // mean over the tokens it served, queue and compute; without the network
};

/// Consecutive tokens that took one route.
struct RouteUsage {
  std::uint32_t tokens = 0;
  std::vector<HopUsage> hops;  // `ms` is 0 here
};

struct Usage {
  std::uint32_t prompt_tokens = 0;  // given in this turn
  std::uint32_t tokens = 0;         // generated
  double ttft_ms = 0;               // from the call to the first token; 0 before it
  double tokens_per_second = 0;     // of the tokens after the first; 0 below two
  FinishReason finish = FinishReason::none;
  std::vector<HopUsage> hops;      // in route order, covering every layer once
  std::uint32_t recoveries = 0;    // times that a lost peer was replaced in this turn
  std::vector<RouteUsage> routes;  // who made which tokens first; they sum up to `tokens`
  /// Who computed which tokens of the prompt; what the peers had in cache is in none.
  std::vector<RouteUsage> prompt_routes;
  /// Only peers of another numerics class were left for some layers: from there on the text may
  /// differ from what a route of one class would have told.
  bool numerics_changed = false;
};

/// The tokens of one turn, as they are made.
class FARMESH_API TokenStream {
 public:
  TokenStream(TokenStream&&) noexcept;
  TokenStream& operator=(TokenStream&&) noexcept;
  ~TokenStream();  // cancels what is still running, without waiting for it

  /// Waits for the next token; nothing at the end. A failure is told once everything before it
  /// was read, and again by each later call.
  Result<std::optional<Token>> next();

  /// Waits at most so long until next() will not; whether that is so. From any thread.
  bool wait(std::chrono::milliseconds at_most) const;

  /// Calls `wake` once, as soon as next() will not wait: now, on this thread, or later on one of
  /// the library's, where it must return at once. A later call replaces an earlier one that still
  /// waits. For event loops, which must not wait.
  void on_ready(std::function<void()> wake);

  /// Ends the turn and frees its cache on every peer at once. Tokens not yet read are dropped.
  /// From any thread; idempotent. The session stays usable.
  void cancel();

  /// So far, or of the whole turn once next() gave nothing. From any thread.
  Usage usage() const;

  /// Why the stream ended early; nothing while it runs and after a proper end.
  std::optional<Error> error() const;

  /// `for (const Token& token : stream)`: ends at the end and at a failure, which error() tells.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Token;
    using difference_type = std::ptrdiff_t;

    explicit iterator(TokenStream& stream) : stream_(&stream) { ++*this; }
    const Token& operator*() const noexcept { return *token_; }
    const Token* operator->() const noexcept { return &*token_; }
    iterator& operator++() {
      Result<std::optional<Token>> next = stream_->next();
      token_ = next ? *std::move(next) : std::nullopt;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& at, std::default_sentinel_t) noexcept {
      return !at.token_.has_value();
    }

   private:
    TokenStream* stream_;
    std::optional<Token> token_;
  };
  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  struct Impl;
  explicit TokenStream(std::unique_ptr<Impl> impl) noexcept;  // made by Session

 private:
  std::unique_ptr<Impl> impl_;
};

class FARMESH_API Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();  // frees the cache on every peer, without waiting; a stream still read goes on

  /// Continues the session's text with `prompt` and then with the model's words. Everything that
  /// can go wrong is told by the stream: busy (the stream before this one still runs),
  /// context_exceeded, invalid_argument, no_route, head_unavailable, …
  TokenStream generate(std::string_view prompt, const GenerateOptions& options = {});

  /// The same for a prompt that is already token ids; nothing is added to them.
  TokenStream generate_ids(std::vector<TokenId> prompt, const GenerateOptions& options = {});

  /// Answers `messages`, the whole conversation so far, through the model's chat template. What
  /// the cache already holds of it is not computed again. Besides the above: model_not_found (no
  /// chat template), template_unsupported.
  TokenStream chat(const std::vector<ChatMessage>& messages, const GenerateOptions& options = {});

  /// All token ids of the session so far, prompts and output.
  std::vector<TokenId> ids() const;

  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl) noexcept;  // made by DistributedModel

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::inline FARMESH_ABI
