// What a peer did for sessions that somebody pays for: counted as it is computed, signed now and
// then.
//
// Takes grants from `open` and the steps that peer.hpp computed, gives signed receipts. There is
// one tally for each session of the ledger and run of layers, however many wire sessions belong to
// it and however often a route comes back here. Counting a step is a few additions; only a receipt
// signs, and only opening and signing allocate. No sockets, and no clock but for dates.
//
// A row counts as used once its driver went on behind it, or says at `close` that it was: until
// then it may have got no further than the next peer. So an honest receipt never claims more than
// the driver's step log, and a driver can disown no token but the last.
// Threading: confined to its owner's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "identity/node_key.hpp"
#include "wire/messages.hpp"
#include "wire/receipt.hpp"

namespace farmesh::serve {

struct MeterOptions {
  std::optional<identity::NodeKey> key;   // signs; none: nothing is metered, no grant looked at
  bool demands_grants = false;            // of every driver but this node itself
  std::vector<NodeId> payers;             // whose grants count; empty: anybody's
  std::uint32_t receipt_tokens = 256;     // of any kind; a receipt is due after so many,
  std::chrono::seconds receipt_time{30};  // or with the first step after so long
  std::size_t max_closed = 4'096;  // tallies kept after their last session, for it may come back
  std::function<std::int64_t()> utc_ms;  // since 1970; empty: the system's clock
};

class Meter {
  struct Tally;

 public:
  /// One wire session's part in a tally. Empty while nobody pays.
  class Count {
   public:
    explicit operator bool() const noexcept { return tally_ != nullptr; }

   private:
    friend class Meter;
    std::shared_ptr<Tally> tally_;
    std::uint32_t prompt_end_ = 0;
    std::uint32_t held_ = 0;  // positions found in cache when it was opened
    bool begun_ = false;      // some row came
    // Rows [begin_, end_) were computed, and it is not known yet whether they were used. The last
    // `tokens_` of them were answered to the driver: an output token comes of each.
    std::uint32_t begin_ = 0;
    std::uint32_t end_ = 0;
    std::uint32_t tokens_ = 0;
  };

  Meter(NodeId self, MeterOptions options);

  /// Whether `driver` may open this session. Nothing: nobody pays for it. Fails with
  /// grant_required, or receipt_invalid when the grant is not signed by `driver` itself, not of a
  /// payer that counts here, for another model, expired, or for no token at all.
  Result<std::optional<wire::Grant>> admit(const wire::Open& open, const NodeId& driver) const;
  /// A client that wants this node to drive brings no grant.
  bool may_generate_for(const NodeId& client) const noexcept;

  /// The session was opened with what admit() gave, and `held` positions are in its cache.
  void open(Count& count, const std::optional<wire::Grant>& grant, const NodeId& driver,
            const wire::Open& open, std::uint32_t held);
  /// Fails with quota when the grant has no token left for this step.
  Result<void> allow(const Count& count, const wire::Step& step) const;
  /// The step was computed; `passed_on` is false when nobody got its result.
  void add(Count& count, const wire::Step& step, bool passed_on, TimePoint now);
  /// A receipt, when one is due.
  std::optional<wire::SignedReceipt> due(const Count& count, TimePoint now);
  /// The session ends. `positions`: those that the driver says were used; nothing when it did not
  /// say. Gives the last receipt with the tally's last session; `reachable` is false when nobody
  /// would get it.
  std::optional<wire::SignedReceipt> close(Count& count, std::optional<std::uint32_t> positions,
                                           bool reachable);
  /// What this node has to say of a session of the ledger, once more: of each run of layers that
  /// it has not forgotten. To the driver that pays for it, final where nothing of it is open. To
  /// anybody else who can name it, once nothing of it is open at all: whoever closes the books of a
  /// coordinator that is gone. Nothing to those where more than one driver claims the session.
  std::vector<wire::SignedReceipt> again(const NodeId& asker, const wire::AccountId& account);

 private:
  using Key = std::tuple<wire::AccountId, NodeId, Span>;  // session of the ledger, payer, layers

  void settle(Count& count, std::uint32_t used) noexcept;
  wire::SignedReceipt sign(Tally& tally, bool final);
  void let_go(const std::shared_ptr<Tally>& tally);
  std::int64_t utc_ms() const;

  const NodeId self_;
  const MeterOptions options_;
  std::map<Key, std::shared_ptr<Tally>> tallies_;
  std::deque<std::pair<Key, std::uint32_t>> closed_;  // oldest first; with which closing it was
};

}  // namespace farmesh::serve
