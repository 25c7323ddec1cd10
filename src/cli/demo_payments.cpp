#include "cli/demo_payments.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <farmesh/ledger.hpp>

#include "cli/node_process.hpp"
#include "cli/terminal.hpp"
#include "evm/abi.hpp"
#include "evm/http_post.hpp"
#include "evm/keystore.hpp"
#include "evm/transaction.hpp"
#include "evm/wei.hpp"
#include "http/client.hpp"
#include "ledger/access.hpp"
#include "ledger/credits.hpp"
#include "ledger/node_registry.hpp"
#include "ledger/store.hpp"

namespace farmesh::cli {
namespace {

namespace fs = std::filesystem;

// Of anvil's first two accounts: the same everywhere, and worth nothing anywhere else.
constexpr const char* kSettlerKey =
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
constexpr const char* kUserKey = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
constexpr std::uint64_t kChain = 31'337;
constexpr std::uint32_t kNodes = 3;
constexpr const char* kRequest = "demo-payment";
constexpr auto kPatience = std::chrono::minutes(2);
const Far kDeposit = Far::from_units(Far::kUnitsPerFar);

Error failed(const std::string& what) { return {Errc::call_reverted, what}; }

/// The chain that this process was started beside.
class DemoChain {
 public:
  static Result<DemoChain> from_environment() {
    DemoChain chain;
    for (const auto& [name, to] :
         {std::pair("FARMESH_RPC", &chain.url_), std::pair("FARMESH_TOKEN", &chain.token_text_),
          std::pair("ESCROW_CONTRACT_ADDRESS", &chain.escrow_text_),
          std::pair("FARMESH_ESCROW_BLOCK", &chain.start_block_)}) {
      const char* value = std::getenv(name);
      if (value == nullptr || *value == '\0') {
        return Error{Errc::config_invalid,
                     "there is no chain: ./run demo --payments starts one (with node and npm)"};
      }
      *to = value;
    }
    const auto token = evm::parse_address(chain.token_text_);
    const auto escrow = evm::parse_address(chain.escrow_text_);
    if (!token) return token.error();
    if (!escrow) return escrow.error();
    chain.token_ = *token;
    chain.escrow_ = *escrow;
    evm::RpcOptions options;
    options.endpoints = {chain.url_};
    options.chain_id = kChain;
    chain.rpc_ = std::make_unique<evm::Rpc>(options, evm::http_post());
    return chain;
  }

  /// Sends a call and waits until it is mined.
  Result<void> transact(evm::Signer& from, const evm::Address& to, std::string_view call,
                        const evm::AbiValue::Members& values) {
    auto data = evm::encode_call(call, values);
    if (!data) return data.error();
    const auto nonce = rpc_->transaction_count(from.address(), evm::BlockTag::latest());
    if (!nonce) return nonce.error();
    const auto fees = rpc_->fees(1);
    if (!fees) return fees.error();
    evm::Transaction transaction;
    transaction.chain_id = kChain;
    transaction.nonce = *nonce;
    transaction.gas_limit = 300'000;
    transaction.max_fee_per_gas = fees->max_fee_per_gas;
    transaction.max_priority_fee_per_gas = fees->max_priority_fee_per_gas;
    transaction.to = to;
    transaction.data = *std::move(data);
    const auto made = evm::sign_transaction(transaction, from);
    if (!made) return made.error();
    const auto sent = rpc_->send_transaction(made->raw);
    if (!sent) return sent.error();
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      const auto receipt = rpc_->receipt(made->hash);
      if (!receipt) return receipt.error();
      if (*receipt) return (*receipt)->succeeded ? Result<void>() : failed(std::string(call));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return Error{Errc::timeout, std::string(call)};
  }

  Result<evm::U256> ask(const evm::Address& to, std::string_view call, const evm::Address& about,
                        std::string_view answer) {
    auto data = evm::encode_call(call, {about});
    if (!data) return data.error();
    const auto bytes = rpc_->call({std::nullopt, to, *std::move(data), {}});
    if (!bytes) return bytes.error();
    const auto values = evm::decode_abi(answer, *bytes);
    return values ? Result<evm::U256>((*values)[0].number()) : values.error();
  }
  Result<evm::U256> tokens_of(const evm::Address& who) {
    return ask(token_, "balanceOf(address)", who, "(uint256)");
  }
  Result<evm::U256> balance_of(const evm::Address& user) {
    return ask(escrow_, "accountOf(address)", user, "(uint96,uint96,uint64)");
  }

  const std::string& url() const { return url_; }
  const evm::Address& token() const { return token_; }
  const evm::Address& escrow() const { return escrow_; }
  /// The flags that name it to the program's other verbs.
  std::vector<std::string> flags() const {
    return {"--chain-id", std::to_string(kChain), "--rpc",         url_,
            "--escrow",   escrow_text_,           "--start-block", start_block_};
  }

 private:
  std::string url_, token_text_, escrow_text_, start_block_;
  evm::Address token_, escrow_;
  std::unique_ptr<evm::Rpc> rpc_;
};

/// A folder that goes with the demo.
class DemoFolder {
 public:
  DemoFolder() {
    std::string name = (fs::temp_directory_path() / "farmesh-demo-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~DemoFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  DemoFolder(const DemoFolder&) = delete;
  DemoFolder& operator=(const DemoFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Runs a verb of this program, shows what it says, and wants it to end well.
Result<void> run_verb(std::vector<std::string> arguments, const std::string& input = {}) {
  std::vector<std::string> argv{own_program()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  auto child = ChildProcess::start(argv, {}, input);
  if (!child) return child.error();
  while (const auto line = child->read_line(kPatience)) fmt::print("    {}\n", *line);
  const int status = child->wait();
  if (status == 0) return {};
  return Error{Errc::io_error,
               arguments[0] + " ended with " + std::to_string(status) + ": " + child->errors()};
}

/// Three nodes and the coordinator before them.
class Service {
 public:
  Result<void> start(const PaymentDemoOptions& options, const std::string& ledger) {
    const Waiting waiting("starting three nodes and a coordinator");
    std::vector<std::string> argv{own_program(), "coordinator", "--model", "demo=" + options.model,
                                  "--ledger",    ledger,        "--port",  "0"};
    for (const Span span : even_split(options.layers, kNodes)) {
      auto node = NodeProcess::start({.program = own_program(),
                                      .model = options.model,
                                      .layers = span,
                                      .more = {"--threads", "1"}});
      if (!node) return node.error();
      nodes_.push_back(*std::move(node));
    }
    for (NodeProcess& node : nodes_) {
      if (const Result<void> ready = node.await_listening(); !ready) return ready;
      argv.insert(argv.end(), {"--peer", node.address()});
    }
    auto coordinator = ChildProcess::start(argv);
    if (!coordinator) return coordinator.error();
    coordinator_.emplace(*std::move(coordinator));
    const auto line = coordinator_->read_line(kPatience);
    const std::string_view before = "listening on ";
    if (!line || !line->starts_with(before)) {
      return Error{Errc::timeout, "no coordinator; it said: " + coordinator_->errors()};
    }
    url_ = line->substr(before.size(), line->find(' ', before.size()) - before.size());
    return {};
  }

  /// The text of one request, as a user of the HTTP interface gets it.
  Result<std::string> generate(const PaymentDemoOptions& options, const std::string& key,
                               const std::string& wallet, const std::string& request_id) {
    http::ClientRequest request;
    request.method = "POST";
    request.url = url_ + "/inference/generate";
    request.headers.add("Content-Type", "application/json");
    request.headers.add("Authorization", "Bearer " + key);
    request.body = nlohmann::json{
        {"prompt", options.prompt},
        {"max_tokens", options.max_tokens},
        {"user_wallet", wallet},
        {"request_id",
         request_id}}.dump();
    const auto reply = http::Client().send(request);
    if (!reply) return reply.error();
    if (reply->status != 200) return Error{Errc::bad_http, reply->body};
    return text_of(reply->body);
  }

 private:
  static std::string text_of(std::string_view events) {
    std::string text;
    while (!events.empty()) {
      const std::size_t end = std::min(events.find('\n'), events.size());
      const std::string_view line = events.substr(0, end);
      events.remove_prefix(std::min(end + 1, events.size()));
      if (!line.starts_with("data: {")) continue;
      const auto event = nlohmann::json::parse(line.substr(6), nullptr, false);
      if (event.is_object() && event.contains("token")) text += event["token"].get<std::string>();
    }
    return text;
  }

  std::vector<NodeProcess> nodes_;
  std::optional<ChildProcess> coordinator_;
  std::string url_;
};

class PaymentDemo {
 public:
  PaymentDemo(const PaymentDemoOptions& options, DemoChain chain, evm::KeySigner settler,
              evm::KeySigner user)
      : options_(options),
        chain_(std::move(chain)),
        settler_(std::move(settler)),
        user_(std::move(user)),
        ledger_((folder_.path() / "ledger.sqlite").string()) {}

  Result<bool> show() {
    Result<void> step = deposit();
    if (step) step = serve();
    if (step) step = pay("a batch pays them");
    if (!step) return step.error();
    const auto equal = compare();
    if (!equal) return equal;
    fmt::print("\nthe ledger against itself and against the chain\n");
    std::vector<std::string> audit{"ledger", "audit", "--url", ledger_};
    const auto flags = chain_.flags();
    audit.insert(audit.end(), flags.begin(), flags.end());
    if (const Result<void> audited = run_verb(audit); !audited) return audited.error();
    fmt::print("    every sum holds, here and on chain\n");
    return *equal;
  }

 private:
  std::string account() const { return evm::to_lower_case(user_.address()); }

  Result<void> deposit() {
    fmt::print("a chain with $FAR and its escrow runs at {}\n\n", chain_.url());
    fmt::print("{} deposits {} $FAR\n", account(), kDeposit.to_string());
    const evm::U256 wei = evm::to_wei(kDeposit);
    Result<void> step = chain_.transact(settler_, chain_.token(), "transfer(address,uint256)",
                                        {user_.address(), wei});
    if (step) {
      step = chain_.transact(user_, chain_.token(), "approve(address,uint256)",
                             {chain_.escrow(), wei});
    }
    if (step) step = chain_.transact(user_, chain_.escrow(), "deposit(uint256)", {wei});
    return step ? pay("the deposit becomes credit") : step;
  }

  Result<void> pay(const char* why) {
    fmt::print("\n{}: farmesh payout --once\n", why);
    std::fflush(stdout);
    std::vector<std::string> argv{
        "payout",     "--once", "--ledger", ledger_,           "--key-fd", "0",      "--minimum",
        "0.00000001", "--hold", "0",        "--confirmations", "1",        "--poll", "50"};
    const auto flags = chain_.flags();
    argv.insert(argv.end(), flags.begin(), flags.end());
    return run_verb(argv, kSettlerKey);
  }

  Result<void> serve() {
    LedgerOptions options;
    options.url = ledger_;
    auto store = ledger::Store::open(options);
    if (!store) return store.error();
    store_ = *std::move(store);
    ledger::ApiKey wanted;
    wanted.account = account();
    wanted.scopes.infer = true;
    const auto key = ledger::ApiKeys(store_).create(wanted);
    if (!key) return key.error();
    Service service;
    if (const Result<void> started = service.start(options_, ledger_); !started) return started;
    const auto text = service.generate(options_, key->secret, account(), kRequest);
    if (!text) return text.error();
    fmt::print("\nthree nodes serve a session\n    {}{}\n", options_.prompt, *text);
    return note_wallets();
  }

  /// A node's wallet comes with its registration; work before that waits for it.
  Result<void> note_wallets() {
    const auto session = ContributionLedger(store_).session_of_request(kRequest);
    if (!session) return session.error();
    fmt::print("    {} tokens cost {} $FAR\n", session->tokens_generated,
               session->total_cost.to_string(4));
    for (const Contribution& one : session->contributions) {
      const evm::Address wallet = evm::PrivateKey::generate().address();
      ledger::NodeRegistration node;
      node.node_id = one.node_id;
      node.wallet = evm::to_lower_case(wallet);
      const auto registered = ledger::NodeRegistry(store_).register_node(node);
      if (!registered) return registered.error();
      earned_.emplace_back(wallet, one.payment);
      fmt::print("    node {:.12}  {:>4} tokens  {} $FAR\n", one.node_id, one.tokens,
                 one.payment.to_string(4));
    }
    return {};
  }

  Result<bool> compare() {
    fmt::print("\n{:48}{:>16}{:>26}\n", "balances", "ledger", "chain");
    const auto credit = ledger::Credits(store_).account(account());
    if (!credit) return credit.error();
    const auto deposited = chain_.balance_of(user_.address());
    if (!deposited) return deposited.error();
    bool equal = line("user " + account(), credit->balance, *deposited);
    for (const auto& [wallet, amount] : earned_) {
      const auto tokens = chain_.tokens_of(wallet);
      if (!tokens) return tokens.error();
      equal = line(evm::to_lower_case(wallet), amount, *tokens) && equal;
    }
    return equal && earned_.size() == kNodes;
  }

  static bool line(const std::string& who, Far amount, const evm::U256& wei) {
    std::string digits = wei.to_decimal();
    if (digits.size() < 19) digits.insert(0, 19 - digits.size(), '0');
    digits.insert(digits.size() - 18, ".");
    fmt::print("{:48}{:>16}{:>26}\n", who, amount.to_string(8), digits);
    return evm::to_wei(amount) == wei;
  }

  PaymentDemoOptions options_;
  DemoFolder folder_;
  DemoChain chain_;
  evm::KeySigner settler_;
  evm::KeySigner user_;
  std::string ledger_;
  std::shared_ptr<ledger::Store> store_;
  std::vector<std::pair<evm::Address, Far>> earned_;
};

}  // namespace

Result<bool> show_payments(const PaymentDemoOptions& options) {
  auto chain = DemoChain::from_environment();
  if (!chain) return chain.error();
  auto settler = evm::parse_private_key(kSettlerKey);
  auto user = evm::parse_private_key(kUserKey);
  if (!settler) return settler.error();
  if (!user) return user.error();
  PaymentDemo demo(options, *std::move(chain), evm::KeySigner(*std::move(settler)),
                   evm::KeySigner(*std::move(user)));
  return demo.show();
}

}  // namespace farmesh::cli
