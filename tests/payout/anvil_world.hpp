// A real chain with the real contracts, a ledger beside it, and everybody who deals with both. Runs
// under contracts/with_chain.mjs, which starts the chain and names it in the environment.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "evm/abi.hpp"
#include "evm/http_post.hpp"
#include "evm/keystore.hpp"
#include "evm/transaction.hpp"
#include "evm/wei.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "payout/deposits.hpp"
#include "payout/escrow_chain.hpp"
#include "payout/payer.hpp"
#include "payout/reconcile.hpp"
#include "payout/reservation.hpp"
#include "unit/ledger/ledgers.hpp"

namespace farmesh::test {

using namespace std::chrono_literals;
using evm::Address;
using payout::Did;

// Of anvil's first two accounts: the same everywhere, and worth nothing anywhere else.
inline constexpr const char* kSettlerKey =
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
inline constexpr const char* kUserKey =
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
inline constexpr std::uint64_t kChain = 31'337;

inline std::string variable(const char* name) {
  const char* value = std::getenv(name);
  REQUIRE_MESSAGE(value != nullptr, name, " is not set: run this through tests/payout/run.sh");
  return value;
}

inline Address address_from(const char* name) {
  const auto address = evm::parse_address(variable(name));
  REQUIRE(address);
  return *address;
}

inline evm::KeySigner signer_of(const char* key) {
  auto parsed = evm::parse_private_key(key);
  REQUIRE(parsed);
  return evm::KeySigner(*std::move(parsed));
}

/// A wallet that nobody has used: cases share one chain.
inline std::string fresh_wallet() {
  return evm::to_lower_case(evm::PrivateKey::generate().address());
}

struct Ran {
  int status = -1;
  std::string output;
  std::string errors;
};

inline std::string content_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// Ends its process, as kill -9 does, before or after the n-th call.
class DyingChain final : public payout::Chain {
 public:
  DyingChain(payout::Chain& chain, int at) : chain_(chain), left_(at) {}

  std::uint64_t id() const override { return chain_.id(); }
  Address escrow() const override { return chain_.escrow(); }
  Result<std::uint64_t> head() override {
    return around([&] { return chain_.head(); });
  }
  Result<std::optional<evm::Bytes32>> block_hash(std::uint64_t number) override {
    return around([&] { return chain_.block_hash(number); });
  }
  Result<std::uint64_t> next_nonce(const Address& sender) override {
    return around([&] { return chain_.next_nonce(sender); });
  }
  Result<evm::Fees> fees() override {
    return around([&] { return chain_.fees(); });
  }
  Result<std::uint64_t> estimate_gas(const Address& from, const evm::Bytes& data) override {
    return around([&] { return chain_.estimate_gas(from, data); });
  }
  Result<void> send(const evm::Bytes& raw) override {
    return around([&] { return chain_.send(raw); });
  }
  Result<std::optional<evm::Receipt>> receipt(const evm::Bytes32& hash) override {
    return around([&] { return chain_.receipt(hash); });
  }
  Result<payout::EscrowBatch> batch(const evm::Bytes32& key) override {
    return around([&] { return chain_.batch(key); });
  }
  Result<payout::EscrowAccount> account(const Address& who) override {
    return around([&] { return chain_.account(who); });
  }
  Result<payout::EscrowHold> hold(const Address& user, const evm::Bytes32& request) override {
    return around([&] { return chain_.hold(user, request); });
  }
  Result<bool> takes_from(const Address& settler) override {
    return around([&] { return chain_.takes_from(settler); });
  }
  Result<std::uint64_t> max_fee_bps() override {
    return around([&] { return chain_.max_fee_bps(); });
  }
  Result<std::vector<payout::Movement>> movements(std::uint64_t from, std::uint64_t to) override {
    return around([&] { return chain_.movements(from, to); });
  }

 private:
  void strike() {
    if (--left_ == 0) ::kill(::getpid(), SIGKILL);
  }
  template <class Work>
  auto around(Work work) -> decltype(work()) {
    strike();
    auto answer = work();
    strike();
    return answer;
  }

  payout::Chain& chain_;
  int left_;
};

inline constexpr const char* kToken = "FARMESH_TOKEN";
inline constexpr const char* kEscrow = "ESCROW_CONTRACT_ADDRESS";

class AnvilWorld : public World<OnSqlite> {
 public:
  evm::KeySigner settler = signer_of(kSettlerKey);
  evm::KeySigner user = signer_of(kUserKey);
  Address token;
  Address escrow;
  std::vector<std::string> wallets{fresh_wallet(), fresh_wallet(), fresh_wallet()};
  std::unique_ptr<payout::Chain> chain = open_chain();

  /// Names of the variables that have the addresses.
  explicit AnvilWorld(const char* token_name = kToken, const char* escrow_name = kEscrow)
      : token(address_from(token_name)), escrow(address_from(escrow_name)) {
    for (std::size_t i = 0; i < wallets.size(); ++i) set_wallet(i, wallets[i]);
  }

  void set_wallet(std::size_t node_index, const std::string& wallet) {
    wallets[node_index] = wallet;
    ledger::NodeRegistration node;
    node.node_id = node_name(static_cast<int>(node_index) + 1);
    node.wallet = wallet;
    REQUIRE(ledger::NodeRegistry(store).register_node(node));
  }

  /// A user whom no other case knows, with coins for gas.
  void become_new_user() {
    user = evm::KeySigner(evm::PrivateKey::generate());
    control("anvil_setBalance", {evm::to_string(user.address()), "0xde0b6b3a7640000"});
  }

  std::uint64_t chain_seconds() {
    const auto block = control("eth_getBlockByNumber", {"latest", false});
    return std::stoull(block["timestamp"].get<std::string>(), nullptr, 16);
  }

  Far balance_on_chain() { return balance_on_chain(user.address()); }
  Far balance_on_chain(const Address& who) {
    const auto account = chain->account(who);
    REQUIRE(account);
    const auto amount = evm::from_wei(account->balance);
    REQUIRE(amount);
    return amount->amount;
  }

  /// What the user signs for a request; the deadline is of the chain's time.
  ledger::EscrowReservation signed_for(const std::string& request, const char* amount,
                                       std::chrono::seconds ahead = 1h) {
    ledger::EscrowReservation terms;
    terms.request_id = request;
    terms.request_key = evm::to_hex0x(payout::request_key(request));
    terms.account = user_account();
    terms.amount = far(amount);
    terms.deadline = LedgerTime(std::chrono::seconds(chain_seconds()) + ahead);
    const auto digest = evm::typed_preimage(evm::escrow_domain(kChain, escrow),
                                            evm::typed(payout::to_sign(terms, user.address())));
    REQUIRE(digest);
    const auto signature = evm::sign_checked(user, evm::Signable::typed_data, *digest);
    REQUIRE(signature);
    const auto bytes = signature->to_bytes();
    terms.signature.assign(bytes.begin(), bytes.end());
    REQUIRE(payout::check_signature(terms, kChain, escrow));
    return terms;
  }

  nlohmann::json control(const std::string& method, nlohmann::json parameters) {
    const nlohmann::json question = {
        {"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", std::move(parameters)}};
    const auto answer = evm::http_post()(variable("FARMESH_RPC"), question.dump());
    REQUIRE_MESSAGE(answer, answer.error().to_string());
    auto parsed = nlohmann::json::parse(answer->body);
    REQUIRE_MESSAGE(parsed.contains("result"), answer->body);
    return parsed["result"];
  }

  void mine(int blocks = 1) {
    control("anvil_mine", nlohmann::json::array({"0x" + std::to_string(blocks)}));
  }

  evm::Rpc rpc() const {
    evm::RpcOptions options;
    options.endpoints = {variable("FARMESH_RPC")};
    options.chain_id = kChain;
    return evm::Rpc(options, evm::http_post());
  }

  void transact(evm::Signer& from, const Address& to, std::string_view call,
                const evm::AbiValue::Members& values) {
    const auto data = evm::encode_call(call, values);
    REQUIRE(data);
    send(from, to, *data);
  }

  void send(evm::Signer& from, const Address& to, const evm::Bytes& data) {
    evm::Rpc chain_rpc = rpc();
    const auto nonce = chain_rpc.transaction_count(from.address(), evm::BlockTag::latest());
    const auto fees = chain_rpc.fees(1);
    REQUIRE(nonce);
    REQUIRE(fees);
    evm::Transaction transaction;
    transaction.chain_id = kChain;
    transaction.nonce = *nonce;
    transaction.gas_limit = 1'000'000;
    transaction.max_fee_per_gas = fees->max_fee_per_gas;
    transaction.max_priority_fee_per_gas = fees->max_priority_fee_per_gas;
    transaction.to = to;
    transaction.data = data;
    const auto made = evm::sign_transaction(transaction, from);
    REQUIRE(made);
    REQUIRE(chain_rpc.send_transaction(made->raw));
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    for (;;) {
      const auto receipt = chain_rpc.receipt(made->hash);
      REQUIRE(receipt);
      if (*receipt) {
        REQUIRE((*receipt)->succeeded);
        return;
      }
      REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
  }

  /// $FAR of a holder, in the token's own units.
  evm::U256 tokens_of(const std::string& holder) {
    const auto address = evm::parse_address(holder);
    REQUIRE(address);
    const auto data = evm::encode_call("balanceOf(address)", {*address});
    REQUIRE(data);
    const auto answer = rpc().call({std::nullopt, token, *data, {}});
    REQUIRE(answer);
    return (*evm::decode_abi("(uint256)", *answer))[0].number();
  }

  /// The account's money into the escrow.
  void deposit(evm::Signer& from, const char* amount) {
    const evm::U256 wei = evm::to_wei(far(amount));
    if (from.address() != settler.address()) {
      transact(settler, token, "transfer(address,uint256)", {from.address(), wei});
    }
    transact(from, token, "approve(address,uint256)", {escrow, wei});
    transact(from, escrow, "deposit(uint256)", {wei});
  }

  std::string user_account() const { return evm::to_lower_case(user.address()); }

  /// Reserves, serves, settles: as the coordinator does.
  void serve(const std::string& request, std::uint32_t tokens) {
    serve(request, tokens, user_account());
  }
  void serve(const std::string& request, std::uint32_t tokens, const std::string& account) {
    ContributionLedger book(store);
    SessionStart start = start_of(request);
    start.user_wallet = account;
    start.split = SplitPolicy::equal;
    const auto reserved = ledger::Credits(store).reserve(
        account, request, *start.price_per_token.times(static_cast<std::int64_t>(tokens)));
    REQUIRE_MESSAGE(reserved, reserved.error().to_string());
    const auto opened = book.begin_session(start);
    REQUIRE(opened);
    REQUIRE(
        book.finalize_session({opened->session_id, SessionStatus::completed, "", log_of(tokens)}));
  }

  payout::PayerOptions options() const {
    payout::PayerOptions options;
    options.minimum = Far::from_units(1);
    options.hold = 0ms;
    options.schedule.reset();
    options.confirmations = 2;
    return options;
  }

  payout::Step settle(payout::Payer& payer) {
    for (int i = 0; i < 100; ++i) {
      const auto step = payer.step();
      REQUIRE_MESSAGE(step, step.error().to_string());
      CAPTURE(step->what);
      REQUIRE(step->did != Did::failed);
      if (step->did == Did::idle) return *step;
      if (step->did == Did::confirmed) MESSAGE(step->what);
      if (step->did == Did::waiting || step->did == Did::errand) {
        mine();
        clock.advance(1s);
      }
    }
    FAIL("a payer without end");
    return {};
  }

  void read_deposits() {
    mine(2);
    payout::DepositWatcher watcher(store, *chain, {2, start_block(), 5'000, 1'000});
    for (int i = 0; i < 100; ++i) {
      const auto step = watcher.step();
      REQUIRE_MESSAGE(step, step.error().to_string());
      if (step->up_to_date) return;
    }
    FAIL("blocks without end");
  }

  /// Pays as a process of its own, which is killed at its n-th touch of the chain. Whether it came
  /// to its end before that. Its clock is the system's, or stands still.
  bool pay_and_die(int at, std::optional<LedgerTime> now = std::nullopt) {
    const pid_t child = ::fork();
    if (child == 0) {
      LedgerOptions ledger_options;
      ledger_options.url = backend.url;
      ledger_options.durable = false;
      if (now) ledger_options.clock = [now] { return *now; };
      const auto mine_alone = ledger::Store::open(ledger_options);
      if (!mine_alone) ::_exit(1);
      const auto real = open_chain();
      DyingChain dying(*real, at);
      payout::PayerOptions wanted = options();
      wanted.confirmations = 1;
      wanted.owner = "one machine";
      payout::Payer payer(*mine_alone, dying, settler, wanted);
      for (int i = 0; i < 10'000; ++i) {  // anvil mines a moment after it was asked
        const auto step = payer.step();
        if (!step) ::_exit(2);
        if (step->did == Did::idle) ::_exit(0);
      }
      ::_exit(3);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
      CHECK(WTERMSIG(status) == SIGKILL);
      return false;
    }
    CHECK(WEXITSTATUS(status) == 0);
    return true;
  }

  /// The program itself; `with` is what stands before it in the shell.
  Ran program(const std::string& arguments, const std::string& with = "") {
    const std::string out = (backend.folder.path() / "out").string();
    const std::string line = with + " '" + variable("FARMESH_PROGRAM") + "' " + arguments + " >" +
                             out + " 2>" + out + ".errors";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content_of(out),
            content_of(out + ".errors")};
  }
  /// Its flags for this chain.
  std::string chain_flags() const {
    return " --chain-id " + std::to_string(kChain) + " --rpc " + variable("FARMESH_RPC") +
           " --escrow " + evm::to_string(escrow) + " ";
  }

  static std::uint64_t start_block() { return std::stoull(variable("FARMESH_ESCROW_BLOCK")); }

  Far credit() {
    const auto account = ledger::Credits(store).account(user_account());
    REQUIRE(account);
    return account->balance;
  }

  /// Payments alone where another case's ledger has charged the shared accounts.
  void check_all(bool balances) {
    check_audit(store);
    AuditReport report;
    REQUIRE(payout::check_payments(store, *chain, report));
    if (balances) REQUIRE(payout::check_balances(store, *chain, start_block(), report));
    for (const AuditFinding& finding : report.findings) {
      FAIL_CHECK(finding.table, " ", finding.row, ": ", finding.what);
    }
  }

 private:
  std::unique_ptr<payout::Chain> open_chain() const {
    payout::EscrowChainOptions options;
    options.rpc.endpoints = {variable("FARMESH_RPC")};
    options.rpc.chain_id = kChain;
    options.escrow = escrow;
    auto opened = payout::open_escrow_chain(options, evm::http_post());
    REQUIRE_MESSAGE(opened, opened.error().to_string());
    return *std::move(opened);
  }
};

}  // namespace farmesh::test
