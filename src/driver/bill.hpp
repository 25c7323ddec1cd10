// One paid session as its driver keeps account of it: the grant that its peers get, the step log
// that they are held to, and the receipts that they send.
//
// Shared by the chains of one session of the ledger (several, where a request wants several texts)
// and by whoever writes receipts down. The step log pays; a receipt only says whether its node
// agrees. Counting a step is two additions a hop.
// Threading: grant(), tally(), take() and wants() on the peer set's executor, where nothing is
// signed or verified but the one grant; the rest from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <farmesh/money.hpp>
#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "identity/node_key.hpp"
#include "wire/receipt.hpp"

namespace farmesh::driver {

struct BillTerms {
  wire::AccountId account{};  // the session in the ledger
  Far price_per_token;
  Far price_per_prompt_token;
  std::uint32_t token_limit = 0;
  std::chrono::seconds lifetime{std::chrono::hours(24)};  // of the grant
  /// Another driver's session, of which nothing is known here: every node may tell what it did for
  /// it, and nothing is agreed with.
  bool of_another = false;
};

class Bill {
 public:
  /// What one node did with one run of layers, by the step log.
  class Tally {
   public:
    void add(std::uint32_t prefill, std::uint32_t decode) noexcept {
      // One thread writes: no read-modify-write is needed.
      prefill_.store(this->prefill() + prefill, std::memory_order_relaxed);
      decode_.store(this->decode() + decode, std::memory_order_relaxed);
    }
    /// Rows that were added and then used by nobody.
    void take_back(std::uint32_t decode) noexcept {
      decode_.store(this->decode() - decode, std::memory_order_relaxed);
    }
    std::uint64_t prefill() const noexcept { return prefill_.load(std::memory_order_relaxed); }
    std::uint64_t decode() const noexcept { return decode_.load(std::memory_order_relaxed); }

   private:
    friend class Bill;
    std::atomic<std::uint64_t> prefill_ = 0;
    std::atomic<std::uint64_t> decode_ = 0;
    std::optional<wire::Receipt> newest_;  // of the node's
    std::uint32_t receipts_ = 0;
    std::weak_ptr<const void> link_;
    bool remote_ = false;    // receipts are to be expected
    bool was_lost_ = false;  // the node may have begun again, and counted from nothing
  };

  static constexpr std::uint32_t kMaxReceipts = 1'024;  // of one node and run of layers
  static constexpr std::size_t kMaxTellers = 256;       // nodes and runs of layers, of_another

  explicit Bill(BillTerms terms) : terms_(terms) {}
  Bill(const Bill&) = delete;
  Bill& operator=(const Bill&) = delete;

  const wire::AccountId& account() const noexcept { return terms_.account; }

  /// As `open` carries it; signed once, with the driver's node key.
  const std::vector<std::uint8_t>& grant(const ModelHash& model, const identity::NodeKey& driver);
  /// Where the work of `node` on `layers` is added up; as long as the bill lives. `link`: which
  /// connection it serves over, nothing else; null: this process itself, which owes no receipts.
  Tally& tally(const NodeId& node, Span layers, const std::shared_ptr<const void>& link);
  /// A session that an earlier process drove, by its step log: before its receipts are asked for
  /// again, and before anybody else has the bill.
  void expect(const NodeId& node, Span layers, std::uint32_t prefill, std::uint32_t decode);
  /// `node` is here once more: whether it may have a receipt that has not come.
  bool wants(const NodeId& node);

  /// A receipt that came over a link whose other end proved to be `from`. Agreed with unless it
  /// claims more than the step log has by now, or is the last of a node that never was lost and
  /// claims less. Fails with receipt_invalid, and counts a refusal: not the node's own, of layers
  /// that it did not serve here, older than another or smaller, too many.
  Result<void> take(const NodeId& from, const wire::SignedReceipt& receipt,
                    const identity::NodeKey& driver);

  /// Those that came since the last call, in order, verified here, and countersigned where they
  /// were agreed with. One that its node did not sign is counted as a refusal.
  std::vector<wire::JudgedReceipt> receipts();
  /// Every node's newest receipt is its last, and says what the step log says.
  bool complete() const;
  std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }

 private:
  struct Taken {
    wire::SignedReceipt receipt;
    std::optional<identity::NodeKey> countersigns;  // none: not agreed with
  };
  Result<Tally*> fitting(const NodeId& from, const wire::SignedReceipt& receipt);

  const BillTerms terms_;
  std::vector<std::uint8_t> grant_;
  std::atomic<std::uint64_t> refused_ = 0;
  mutable std::mutex mutex_;  // guards the below, but for the tallies' sums
  std::map<std::pair<NodeId, Span>, Tally> tallies_;
  std::vector<Taken> taken_;
};

}  // namespace farmesh::driver
