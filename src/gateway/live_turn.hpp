// A request's turn from its admission to its bill: the one object between a route and a model.
//
// Takes a checked request, gives its tokens, and keeps count of what was delivered: that, and
// nothing else, is what the user pays. One handler's thread uses it; cancel() may come from any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/ledger.hpp>
#include <farmesh/money.hpp>

#include "gateway/fair_queue.hpp"
#include "gateway/gatekeeper.hpp"
#include "gateway/model_host.hpp"
#include "gateway/problem.hpp"
#include "gateway/resumption.hpp"
#include "gateway/session_cache.hpp"
#include "gateway/turn.hpp"
#include "http/responder.hpp"

namespace farmesh::gateway {

struct Services;

struct TurnOrder {
  HostedModel* model = nullptr;
  std::vector<TurnInput> inputs;  // max_tokens set in each
  bool may_shorten = false;       // max_tokens is ours: cut it to what the account can pay
  Admitted admitted;
  std::string tier;  // as asked for; empty: the account's
  std::string request_id;
  std::string body_digest;
  std::string traceparent;      // W3C trace context for the mesh
  std::string http_request_id;  // the exchange's, as X-Request-Id tells it
  std::optional<Far> max_cost;  // max_tokens is cut to what it buys
  /// What another stream needs to go on with this one, but for what only the turn knows; a path
  /// that is empty keeps nothing.
  CachedTurn kept;
  std::optional<Resumption> resumption;  // the stream goes on behind these
};

/// A bound without a tokenizer: a token is at least a byte, but for the few that a template or the
/// model puts around them.
std::uint64_t most_prompt_tokens(const std::vector<TurnInput>& inputs);

class LiveTurn {
 public:
  /// Waits for a place, reserves the money, opens the bill, starts the sequences. `responder`: a
  /// client that hangs up is not waited for, then and later. Fails with 402, 409, 429, 503, 499.
  static Checked<std::shared_ptr<LiveTurn>> open(Services& services, TurnOrder order,
                                                 http::Responder& responder);
  ~LiveTurn();  // as finish(cancelled) when it was not finished
  LiveTurn(const LiveTurn&) = delete;
  LiveTurn& operator=(const LiveTurn&) = delete;

  /// The next token, or the end of a sequence; nothing when all have ended. Tokens that were told
  /// before count as delivered already.
  Checked<std::optional<Turn::Item>> next();
  /// The reader took a token of this sequence.
  void delivered(std::uint32_t sequence);
  void cancel();  // from any thread
  const std::string& request_id() const noexcept { return order_.request_id; }
  /// Items so far, for the ids of events that tell no item.
  std::size_t items() const noexcept { return read_; }
  /// Tells the session cache what came since the last call. From any thread.
  void keep();

  std::uint64_t delivered_tokens() const noexcept { return delivered_in_all_; }
  /// For the ledger's checkpoint; nothing without a ledger. From any thread.
  std::optional<SessionProgress> progress();
  /// The same once, when the first token was delivered and nothing is saved of it yet.
  std::optional<SessionProgress> first_progress();
  std::uint64_t prompt_tokens() const;
  /// Of them, those that no peer had in cache: what prompts cost is for these.
  std::uint64_t computed_prompt_tokens() const;
  std::uint64_t cached_prompt_tokens() const;
  /// Of what was delivered, and of `more` tokens.
  Far cost(std::uint64_t more = 0) const;
  /// Settled with the first token.
  Origin origin() const { return turn_->origin(); }
  std::chrono::milliseconds age() const;
  /// Who made the tokens so far, in route order.
  std::vector<NodeUsed> nodes_used() const;

  /// What others are told of the answer so far, but for its text and how it ended.
  void describe(PlatformAnswer& answer) const;
  /// Writes the bill: call once, when nothing more will be delivered.
  void finish(SessionStatus status, const std::optional<Problem>& problem = std::nullopt);

 private:
  LiveTurn(Services& services, TurnOrder order);
  std::optional<Problem> admit();
  std::optional<Problem> open_bill();
  std::uint32_t tokens_left() const;
  void cache_failed(const Error& error);
  Result<void> reserve();
  Result<void> begin_session();
  void start();
  void open_kept();
  bool forget_kept();
  std::optional<Problem> note(Turn::Item& item);
  WorkLog work_log() const;
  void settle(SessionOutcome outcome);
  void observe(SessionStatus status);
  std::uint64_t charged_tokens() const;

  Services& services_;
  TurnOrder order_;
  FairQueue::Ticket ticket_;
  FairQueue::Place place_;
  std::unique_ptr<Turn> turn_;
  std::string bill_id_;     // the session's request id in the ledger
  std::string session_id_;  // there; empty without one
  std::shared_ptr<driver::Bill> bill_;
  mutable std::mutex mutex_;  // guards the below from progress() and cancel()
  bool cancelled_ = false;
  std::vector<std::uint32_t> delivered_;       // tokens of each sequence, charged here …
  std::vector<std::uint32_t> charged_before_;  // … and before, to earlier sessions
  std::vector<CachedItem> items_;
  std::size_t kept_ = 0;  // of these, in the session cache
  bool is_kept_ = false;
  bool without_ids_ = false;
  std::mutex keeping_;                               // one keep() at a time
  std::string writer_, path_, digest_;               // as the session cache has them
  std::atomic<std::uint64_t> delivered_in_all_ = 0;  // and before
  std::atomic<bool> was_saved_ = false;              // some of them
  std::size_t read_ = 0;                             // items that next() gave
  Far price_, prompt_price_;                         // as they were at the start
  std::chrono::steady_clock::time_point began_;
  std::optional<std::chrono::steady_clock::time_point> first_;
  bool finished_ = false;
};

}  // namespace farmesh::gateway
