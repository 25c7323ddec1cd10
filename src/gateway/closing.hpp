// Sessions whose coordinator is gone, ended with what it saved of them and what nodes prove beyond.
//
// Takes sessions from the ledger, asks the model's nodes what they did for them, and writes their
// end. A stream is paid as far as every node of its route has seen its tokens go on: each had left
// for the client by then. A whole answer that never went out is owed by nobody. Receipts that fit
// are countersigned; others become disputes, as ever. One thread uses it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include <farmesh/ledger.hpp>

#include "driver/bill.hpp"
#include "gateway/model_host.hpp"
#include "ledger/receipts.hpp"

namespace farmesh::gateway {

struct Services;

class Closing {
 public:
  static constexpr std::chrono::seconds kPatience{5};  // with nodes that do not answer

  explicit Closing(Services& services, std::chrono::milliseconds patience = kPatience)
      : services_(services), patience_(patience) {}

  /// Begins asking; what needs no answer is ended by the next look(). `told`: its client is here
  /// and has so many tokens, no more of which are owed.
  void add(AbandonedSession session, std::optional<std::uint64_t> told = std::nullopt);
  /// Begins asking what nodes have to say of a session that has ended already.
  void hear(ledger::UnreceiptedSession session);
  /// Ends those that are proven, and those that nobody answered for in time. True: some are left.
  bool look();
  /// The same until none is left.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    AbandonedSession session;
    bool ended = false;  // already: its nodes are to be heard, nothing to be proven
    std::optional<std::uint64_t> told;
    std::shared_ptr<driver::Bill> bill;  // none: nobody is asked
    HostedModel* hosted = nullptr;
    Clock::time_point until, asked;
    std::vector<wire::Receipt> receipts;
  };
  void ask(Pending& pending);
  bool try_end(Pending& pending);
  bool try_prove(const Pending& pending);
  void end_as_saved(const Pending& pending);
  void end_as_proven(const Pending& pending, const WorkLog& log);
  void expect_receipts(const Pending& pending, const WorkLog& log);

  Services& services_;
  const std::chrono::milliseconds patience_;
  std::list<Pending> pending_;
};

}  // namespace farmesh::gateway
