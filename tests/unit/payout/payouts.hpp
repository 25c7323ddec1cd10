// A ledger with work in it, a chain in memory, and a payer between them.
#pragma once

#include <memory>
#include <string>

#include "base/assert.hpp"
#include "evm/signer.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "payout/payer.hpp"
#include "payout/reconcile.hpp"
#include "unit/ledger/ledgers.hpp"
#include "unit/payout/memory_chain.hpp"

namespace farmesh::test {

using payout::Did;
using payout::Payer;
using payout::PayerOptions;
using payout::Step;

inline evm::PrivateKey key_of(std::uint8_t number) {
  std::array<std::uint8_t, 32> bytes{};
  bytes[31] = number;
  auto key = evm::PrivateKey::from_bytes(bytes);
  FARMESH_ASSERT(key);  // also where no test case runs yet
  return *std::move(key);
}

inline Address wallet_of(int number) { return *evm::parse_address(wallet_name(number)); }

inline const Address kBacking = address_of(0xbb);
inline const Address kUser = wallet_of(900);

/// Pays everything at once, and believes a block after three.
inline PayerOptions eager() {
  PayerOptions options;
  options.minimum = Far::from_units(1);
  options.hold = std::chrono::milliseconds(0);
  options.schedule.reset();
  options.confirmations = 3;
  options.backing = kBacking;
  return options;
}

template <class Backend>
struct PayoutWorld : World<Backend> {
  MemoryChain chain;
  evm::KeySigner signer{key_of(7)};

  PayoutWorld() {
    if (!this->store) return;
    chain.now = [time = this->clock.time] { return *time; };
    for (int i = 1; i <= 3; ++i) register_node(i, wallet_name(i));
    chain.deposit(kBacking, far("1000"));
  }

  void register_node(int number, const std::string& wallet) {
    ledger::NodeRegistration node;
    node.node_id = node_name(number);
    node.wallet = wallet;
    REQUIRE(ledger::NodeRegistry(this->store).register_node(node));
  }

  /// The user's money, on chain and in the ledger alike.
  void deposit(const char* amount, const std::string& reference = "first") {
    chain.deposit(kUser, far(amount));
    REQUIRE(ledger::Credits(this->store).deposit(wallet_name(900), far(amount), reference));
  }

  /// One session of the published example's kind: three nodes, the equal split.
  void serve(const std::string& request, std::uint32_t tokens, bool on_credit = true,
             SessionStatus status = SessionStatus::completed) {
    ContributionLedger book(this->store);
    SessionStart start = start_of(request);
    start.split = SplitPolicy::equal;
    if (on_credit) {
      REQUIRE(ledger::Credits(this->store)
                  .reserve(wallet_name(900), request,
                           *start.price_per_token.times(static_cast<std::int64_t>(tokens))));
    }
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    const auto ended = book.finalize_session({opened->session_id, status, "", log_of(tokens)});
    REQUIRE_MESSAGE(ended, ended.error().to_string());
  }

  Payer payer(PayerOptions options = eager()) {
    return Payer(this->store, chain, signer, std::move(options));
  }

  Step step(Payer& payer) {
    auto step = payer.step();
    REQUIRE_MESSAGE(step, step.error().to_string());
    return *std::move(step);
  }

  /// Steps, with blocks and seconds in between, until there is nothing to do.
  Step settle(Payer& payer) {
    for (int i = 0; i < 500; ++i) {
      const Step next = step(payer);
      if (next.did == Did::idle || next.did == Did::standby || next.did == Did::paused) {
        return next;
      }
      if (next.did == Did::waiting && next.batch_id.empty()) return next;
      if (next.did == Did::waiting || next.did == Did::failed || next.did == Did::errand) {
        chain.mine();
        this->clock.advance(std::chrono::seconds(1));
      }
    }
    FAIL("a payer without end");
    return {};
  }

  Step until(Payer& payer, Did did) {
    for (int i = 0; i < 500; ++i) {
      const Step next = step(payer);
      if (next.did == did) return next;
      if (next.did == Did::waiting || next.did == Did::idle || next.did == Did::errand) {
        chain.mine();
        this->clock.advance(std::chrono::seconds(1));
      }
    }
    FAIL("never ", std::string(name(did)));
    return {};
  }

  Far paid(int wallet) { return chain.state.paid[wallet_of(wallet)]; }

  /// Ledger and chain agree on everything.
  void check_all() {
    check_audit(this->store);
    AuditReport report;
    const auto payments = payout::check_payments(this->store, chain, report);
    REQUIRE_MESSAGE(payments, payments.error().to_string());
    for (const AuditFinding& finding : report.findings) {
      FAIL_CHECK(finding.table, " ", finding.row, ": ", finding.what);
    }
  }

  std::vector<AuditFinding> differences() {
    AuditReport report;
    REQUIRE(payout::check_payments(this->store, chain, report));
    REQUIRE(payout::check_balances(this->store, chain, 0, report));
    return report.findings;
  }
};

}  // namespace farmesh::test
