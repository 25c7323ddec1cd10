// A chain in memory with the escrow on it: blocks, a pool, reorganisations, and endpoints that
// forget, lag, refuse, or answer after the process that asked has died.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include "evm/abi.hpp"
#include "evm/keccak.hpp"
#include "evm/transaction.hpp"
#include "evm/wei.hpp"
#include "payout/chain.hpp"
#include "payout/settlement.hpp"

namespace farmesh::test {

using evm::Address;
using evm::Bytes32;
using payout::Movement;

inline Address address_of(std::uint8_t number) {
  Address address;
  address.bytes.fill(0x20);
  address.bytes[19] = number;
  return address;
}

/// The escrow's rules: balances, batches that are good once, sums that meet.
struct EscrowState {
  std::map<Address, Far> balances;
  std::map<Address, Far> paid;
  std::map<Bytes32, payout::EscrowBatch> batches;
  std::map<Address, std::uint64_t> nonces;
  std::set<Address> rejecting;  // the token refuses them: their pay waits in claimable
  std::map<Address, Far> claimable;
  std::map<Address, Far> requested;  // to be withdrawn
  std::map<std::pair<Address, Bytes32>, payout::EscrowHold> holds;
  Far fees;
  bool paused = false;
  std::set<Address> dismissed;  // settlers without their role
};

class MemoryChain final : public payout::Chain {
 public:
  struct Mined {
    evm::SignedTransaction transaction;
    evm::Receipt receipt;
  };
  struct BlockOf {
    std::vector<Mined> mined;
    std::vector<Movement> movements;
    EscrowState before;
    std::uint64_t salt = 0;
  };

  EscrowState state;
  std::vector<BlockOf> blocks{1};
  std::map<Bytes32, evm::SignedTransaction> pool;
  evm::U256 fee = 1'000'000'000;  // what a block asks
  evm::U256 mined_above = 0;      // offers below wait in the pool
  std::uint64_t fee_bps = 0;
  std::uint64_t forks = 0;
  std::uint64_t sends = 0;
  bool lose_answers = false;     // takes what is sent, and the answer never comes
  bool hide_receipts = false;    // an endpoint that lags
  std::size_t old_holds = 0;     // as many more answers are of before anything was reserved
  bool invent_receipts = false;  // one that lies: whatever is asked about has succeeded
  std::function<LedgerTime()> now = [] { return LedgerTime(); };
  /// Before and after each call; may throw, as a killed process ends.
  std::function<void(const char* call, bool after)> on_call;

  std::uint64_t id() const override { return 31'337; }
  Address escrow() const override { return address_of(0xee); }

  // --- what happens outside -------------------------------------------------------------------

  void mine(std::size_t count = 1) {
    for (std::size_t i = 0; i < count; ++i) {
      BlockOf block;
      block.before = state;
      block.salt = forks;
      blocks.push_back(std::move(block));
      take_from_pool();
    }
  }

  void deposit(const Address& user, Far amount) { deposit_wei(user, evm::to_wei(amount)); }
  void deposit_wei(const Address& user, const evm::U256& wei) {
    move(user, wei, Movement::Kind::deposit);
  }
  void withdraw(const Address& user, Far amount) {
    move(user, evm::to_wei(amount), Movement::Kind::withdrawal);
  }
  void request_withdrawal(const Address& user, Far amount) {
    move(user, evm::to_wei(amount), Movement::Kind::request);
  }

  /// The last `count` blocks never were; their transactions are in no pool.
  void reorganise(std::size_t count) {
    REQUIRE(count < blocks.size());
    state = blocks[blocks.size() - count].before;
    blocks.resize(blocks.size() - count);
    ++forks;
    mine(count);
  }

  // --- Chain ----------------------------------------------------------------------------------

  Result<std::uint64_t> head() override {
    return asked<std::uint64_t>("head", [&] { return blocks.size() - 1; });
  }
  Result<std::optional<Bytes32>> block_hash(std::uint64_t number) override {
    return asked<std::optional<Bytes32>>("block_hash", [&]() -> std::optional<Bytes32> {
      if (number >= blocks.size()) return std::nullopt;
      return evm::keccak256(std::to_string(number) + "/" + std::to_string(blocks[number].salt));
    });
  }
  Result<std::uint64_t> next_nonce(const Address& sender) override {
    return asked<std::uint64_t>("next_nonce", [&] { return state.nonces[sender]; });
  }
  Result<evm::Fees> fees() override {
    return asked<evm::Fees>("fees", [&] { return evm::Fees{fee, 1}; });
  }
  Result<std::uint64_t> estimate_gas(const Address& from, const evm::Bytes& data) override {
    return asked<std::uint64_t>("estimate_gas", [&]() -> Result<std::uint64_t> {
      EscrowState trial = state;
      const auto run = execute(trial, data, from);
      if (!run) return run.error();
      return std::uint64_t{100'000};
    });
  }
  Result<void> send(const evm::Bytes& raw) override {
    const auto done = asked<int>("send", [&]() -> Result<int> {
      const auto transaction = evm::decode_transaction(raw);
      REQUIRE(transaction);
      ++sends;
      const auto& body = transaction->transaction;
      if (body.nonce < state.nonces[transaction->sender]) return Error{Errc::nonce_taken, ""};
      for (const auto& [hash, waiting] : pool) {
        if (hash == transaction->hash) return 0;
        if (waiting.sender == transaction->sender && waiting.transaction.nonce == body.nonce &&
            waiting.transaction.max_fee_per_gas >= body.max_fee_per_gas) {
          return Error{Errc::fee_too_low, "replacement transaction underpriced"};
        }
      }
      std::erase_if(pool, [&](const auto& entry) {
        return entry.second.sender == transaction->sender &&
               entry.second.transaction.nonce == body.nonce;
      });
      pool.emplace(transaction->hash, *transaction);
      if (lose_answers) return Error{Errc::chain_unavailable, "no answer"};
      return 0;
    });
    return done ? Result<void>() : done.error();
  }
  Result<std::optional<evm::Receipt>> receipt(const Bytes32& hash) override {
    return asked<std::optional<evm::Receipt>>("receipt", [&]() -> std::optional<evm::Receipt> {
      if (invent_receipts) return evm::Receipt{hash, 1, {}, true, 21'000, {}, {}};
      for (const BlockOf& block : blocks) {
        for (const Mined& mined : block.mined) {
          if (mined.transaction.hash == hash && !hide_receipts) return mined.receipt;
        }
      }
      return std::nullopt;
    });
  }
  Result<payout::EscrowBatch> batch(const Bytes32& key) override {
    return asked<payout::EscrowBatch>("batch", [&] {
      const auto found = state.batches.find(key);
      return found == state.batches.end() ? payout::EscrowBatch() : found->second;
    });
  }
  Result<payout::EscrowAccount> account(const Address& user) override {
    return asked<payout::EscrowAccount>("account", [&] {
      const evm::U256 wei = wei_of(user);
      return payout::EscrowAccount{wei, wei, evm::to_wei(state.requested[user])};
    });
  }
  Result<payout::EscrowHold> hold(const Address& user, const Bytes32& request) override {
    return asked<payout::EscrowHold>("hold", [&] {
      if (old_holds == 0) return state.holds[{user, request}];
      --old_holds;
      return payout::EscrowHold();
    });
  }
  Result<bool> takes_from(const Address& settler) override {
    return asked<bool>("takes_from",
                       [&] { return !state.paused && !state.dismissed.contains(settler); });
  }
  Result<std::uint64_t> max_fee_bps() override {
    return asked<std::uint64_t>("max_fee_bps", [&] { return fee_bps; });
  }
  Result<std::vector<Movement>> movements(std::uint64_t from, std::uint64_t to) override {
    return asked<std::vector<Movement>>("movements", [&] {
      std::vector<Movement> all;
      for (std::uint64_t i = from; i <= to && i < blocks.size(); ++i) {
        std::ranges::copy(blocks[i].movements, std::back_inserter(all));
      }
      return all;
    });
  }

 private:
  template <class Value, class Work>
  Result<Value> asked(const char* call, Work work) {
    if (on_call) on_call(call, false);
    Result<Value> answer = work();
    if (on_call) on_call(call, true);
    return answer;
  }

  evm::U256 wei_of(const Address& user) {
    const auto sum = checked_add(evm::to_wei(state.balances[user]), dust_[user]);
    return *sum;
  }

  void move(const Address& user, const evm::U256& wei, Movement::Kind kind) {
    mine();
    Movement movement;
    movement.kind = kind;
    movement.user = user;
    movement.amount = wei;
    movement.block_number = blocks.size() - 1;
    movement.transaction_hash = evm::keccak256("movement " + std::to_string(moves_++));
    const auto amount = evm::from_wei(wei);
    REQUIRE(amount);
    blocks.back().movements.push_back(movement);
    Far& balance = state.balances[user];
    Far& requested = state.requested[user];
    switch (kind) {
      case Movement::Kind::deposit:
        balance = *balance.plus(amount->amount);
        dust_[user] = *checked_add(dust_[user], amount->dust_wei);
        break;
      case Movement::Kind::withdrawal:
        balance = *balance.minus(amount->amount);
        requested = requested > amount->amount ? *requested.minus(amount->amount) : Far();
        break;
      case Movement::Kind::request: requested = amount->amount; break;
    }
  }

  void take_from_pool() {
    for (bool more = true; more;) {
      more = false;
      for (auto waiting = pool.begin(); waiting != pool.end(); ++waiting) {
        const auto& [hash, transaction] = *waiting;
        const auto nonce = state.nonces[transaction.sender];
        if (transaction.transaction.nonce < nonce) {
          pool.erase(waiting);
          more = true;
          break;
        }
        if (transaction.transaction.nonce > nonce ||
            transaction.transaction.max_fee_per_gas < mined_above) {
          continue;
        }
        mine_one(transaction);
        pool.erase(waiting);
        more = true;
        break;
      }
    }
  }

  void mine_one(const evm::SignedTransaction& transaction) {
    ++state.nonces[transaction.sender];
    Mined mined{transaction, {}};
    mined.receipt.transaction_hash = transaction.hash;
    mined.receipt.block_number = blocks.size() - 1;
    mined.receipt.gas_used = 100'000;
    mined.receipt.gas_price = 1'000'000'000;
    EscrowState trial = state;
    const auto logs = execute(trial, transaction.transaction.data, transaction.sender);
    mined.receipt.succeeded = logs.has_value();
    if (logs) {
      state = std::move(trial);
      mined.receipt.logs = *logs;
    }
    blocks.back().mined.push_back(std::move(mined));
  }

  evm::Log event(const char* signature, const Bytes32& key, const payout::Part& payment) {
    Bytes32 who{};
    std::ranges::copy(payment.who.bytes, who.begin() + 12);
    evm::Log log;
    log.address = escrow();
    log.topics = {evm::event_topic(signature), key, who};
    log.data = *evm::encode_abi("(uint256)", {evm::to_wei(payment.amount)});
    return log;
  }

  Result<std::vector<evm::Log>> execute(EscrowState& now, const evm::Bytes& data,
                                        const Address& sender) {
    const Error reverted{Errc::call_reverted, "reverted"};
    if (const auto done = reclaim(now, data)) {  // the exits have no pause, and want no role
      return *done ? Result<std::vector<evm::Log>>(std::vector<evm::Log>()) : reverted;
    }
    if (now.paused || now.dismissed.contains(sender)) return reverted;
    if (const auto done = reserve(now, data)) {
      return *done ? Result<std::vector<evm::Log>>(std::vector<evm::Log>()) : reverted;
    }
    const auto call = payout::decode_settlement(data);
    if (!call) return reverted;
    if (now.batches[call->key].settled_block != 0) return reverted;
    Far charged;
    for (const payout::Charge& charge : call->charges) {
      charged = *charged.plus(charge.amount);
      if (charge.request != Bytes32{}) {
        if (!take(now, charge, payout::EscrowHold::State::closed)) return reverted;
        continue;
      }
      Far& balance = now.balances[charge.who];
      if (charge.amount > balance || charge.amount.is_zero()) return reverted;
      balance = *balance.minus(charge.amount);
    }
    if (charged != *call->total.plus(call->fee)) return reverted;
    now.fees = *now.fees.plus(call->fee);
    now.batches[call->key] = {blocks.size() - 1, call->root};
    std::vector<evm::Log> logs;
    for (const payout::Part& payment : call->payments) {
      if (payment.who.is_zero() || payment.who == escrow()) return reverted;
      const bool refused = now.rejecting.contains(payment.who);
      Far& account = refused ? now.claimable[payment.who] : now.paid[payment.who];
      account = *account.plus(payment.amount);
      logs.push_back(event(
          refused ? "PaymentDeferred(bytes32,address,uint256)" : "Paid(bytes32,address,uint256)",
          call->key, payment));
    }
    return logs;
  }

  std::uint64_t seconds() const {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch()).count());
  }

  /// Charges a reservation, and gives the rest back; false where the escrow would not.
  bool take(EscrowState& now, const payout::Charge& charge, payout::EscrowHold::State next) {
    payout::EscrowHold& hold = now.holds[{charge.who, charge.request}];
    const bool open = hold.state == payout::EscrowHold::State::open;
    const bool authorized = hold.state == payout::EscrowHold::State::authorized;
    const Far held = evm::from_wei(hold.amount)->amount;
    if (!(open || (authorized && next == payout::EscrowHold::State::closed)) ||
        seconds() >= hold.deadline || charge.amount > held) {
      return false;
    }
    Far& balance = now.balances[charge.who];
    balance = *balance.plus(*held.minus(charge.amount));
    const bool fixed = next == payout::EscrowHold::State::authorized;
    hold = {next, fixed ? evm::to_wei(charge.amount) : evm::U256(),
            fixed ? seconds() + 14 * 86'400 : 0};
    return true;
  }

  /// Of a call to this function; nothing for another one.
  static std::optional<evm::AbiValue::Members> arguments(const evm::Bytes& data,
                                                         std::string_view signature,
                                                         std::string_view types) {
    const evm::Selector which = evm::selector(signature);
    if (data.size() < 4 || !std::equal(which.begin(), which.end(), data.begin())) return {};
    auto values = evm::decode_abi(types, evm::BytesView(data).subspan(4));
    REQUIRE(values);
    return *std::move(values);
  }

  /// The calls of the settler that are no settlement; nothing for another one.
  std::optional<bool> reserve(EscrowState& now, const evm::Bytes& data) {
    using State = payout::EscrowHold::State;
    if (const auto open = arguments(data, "openReservation(address,bytes32,uint256,uint64,bytes)",
                                    "(address,bytes32,uint256,uint64,bytes)")) {
      const Address user = (*open)[0].address();
      payout::EscrowHold& hold = now.holds[{user, (*open)[1].word()}];
      const Far amount = evm::from_wei((*open)[2].number())->amount;
      const std::uint64_t deadline = *(*open)[3].number().to_uint64();
      if (hold.state != State::none || amount > now.balances[user] || deadline <= seconds()) {
        return false;
      }
      now.balances[user] = *now.balances[user].minus(amount);
      hold = {State::open, (*open)[2].number(), deadline};
      return true;
    }
    if (const auto fix = arguments(data, "authorizeSettlements((address,bytes32,uint256)[])",
                                   "((address,bytes32,uint256)[])")) {
      for (const evm::AbiValue& value : (*fix)[0].members()) {
        const auto& fields = value.members();
        const Far cost = evm::from_wei(fields[2].number())->amount;
        if (cost.is_zero()) return false;
        if (!take(now, {fields[0].address(), cost, fields[1].word()}, State::authorized)) {
          return false;
        }
      }
      return true;
    }
    return std::nullopt;
  }

  std::optional<bool> reclaim(EscrowState& now, const evm::Bytes& data) {
    using State = payout::EscrowHold::State;
    const auto back = arguments(data, "reclaimReservation(address,bytes32)", "(address,bytes32)");
    if (!back) return std::nullopt;
    const Address user = (*back)[0].address();
    payout::EscrowHold& hold = now.holds[{user, (*back)[1].word()}];
    if ((hold.state != State::open && hold.state != State::authorized) ||
        seconds() < hold.deadline) {
      return false;
    }
    now.balances[user] = *now.balances[user].plus(evm::from_wei(hold.amount)->amount);
    hold = {State::closed, {}, 0};
    return true;
  }

  std::map<Address, evm::U256> dust_;
  std::uint64_t moves_ = 0;
};

}  // namespace farmesh::test
