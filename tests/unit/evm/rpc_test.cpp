// An Rpc over endpoints that answer by script: no network, no clock.
#include "evm/rpc.hpp"

#include <deque>
#include <map>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "evm/abi.hpp"
#include "evm/json_rpc.hpp"
#include "evm/keccak.hpp"
#include "unit/evm/support.hpp"

namespace farmesh::evm {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kA = "https://a.example/v3/secret-key";
constexpr std::string_view kB = "https://user:secret@b.example:8545";

/// Endpoints by URL. What is scripted for a method is answered in turn, the last of it for ever.
class World {
 public:
  using Answer = std::function<Result<HttpAnswer>(const Json& request)>;

  World() {
    for (const std::string_view url : {kA, kB}) on(url, "eth_chainId", result("0x38"));
  }

  static Answer result(Json value) {
    return [value](const Json& request) -> Result<HttpAnswer> {
      const Json reply = {{"jsonrpc", "2.0"}, {"id", request["id"]}, {"result", value}};
      return HttpAnswer{200, reply.dump()};
    };
  }
  static Answer error(int code, std::string message, Json data = nullptr) {
    return [=](const Json& request) -> Result<HttpAnswer> {
      Json error = {{"code", code}, {"message", message}};
      if (!data.is_null()) error["data"] = data;
      const Json reply = {{"jsonrpc", "2.0"}, {"id", request["id"]}, {"error", error}};
      return HttpAnswer{200, reply.dump()};
    };
  }
  static Answer raw(int status, std::string body) {
    return [=](const Json&) -> Result<HttpAnswer> { return HttpAnswer{status, body}; };
  }
  static Answer lost(Errc code) {
    return [=](const Json&) -> Result<HttpAnswer> { return Error{code, "the link broke"}; };
  }

  void on(std::string_view url, std::string_view method, Answer answer) {
    scripts_[std::string(url)][std::string(method)] = {std::move(answer)};
  }
  void then(std::string_view url, std::string_view method, Answer answer) {
    scripts_[std::string(url)][std::string(method)].push_back(std::move(answer));
  }
  void both(std::string_view method, const Answer& answer) {
    for (const std::string_view url : {kA, kB}) on(url, method, answer);
  }

  Rpc rpc() {
    RpcOptions options;
    options.endpoints = {std::string(kA), std::string(kB)};
    options.chain_id = 56;
    options.max_log_blocks = 100;
    options.now = [this] { return now; };
    return Rpc(options, [this](const std::string& url, const std::string& body) {
      return answer(url, Json::parse(body));
    });
  }

  /// "a eth_chainId a eth_blockNumber …"
  std::string asked;
  std::vector<Json> parameters;
  TimePoint now{};

 private:
  Result<HttpAnswer> answer(const std::string& url, const Json& request) {
    const std::string method = request["method"];
    if (!asked.empty()) asked += ' ';
    asked += (url == kA ? "a " : "b ") + method;
    parameters.push_back(request["params"]);
    std::deque<Answer>& script = scripts_[url][method];
    REQUIRE_MESSAGE(!script.empty(), method);
    const Answer next = script.front();
    if (script.size() > 1) script.pop_front();
    return next(request);
  }

  std::map<std::string, std::map<std::string, std::deque<Answer>>> scripts_;
};

/// 32 bytes of which the last is `last`.
std::string word(std::uint8_t last) {
  Bytes32 bytes{};
  bytes.back() = last;
  return to_hex0x(bytes);
}

const std::string kHash = word(0xaa);
const std::string kBlockHash = word(0xbb);
const std::string kTopic = word(0xcc);
const std::string kEscrow = "0x3535353535353535353535353535353535353535";

Json log_json(std::uint64_t block, std::uint64_t index) {
  return {{"address", kEscrow},
          {"topics", {kTopic, word(1)}},
          {"data", "0x01"},
          {"blockNumber", U256(block).to_quantity()},
          {"blockHash", kBlockHash},
          {"transactionHash", kHash},
          {"logIndex", U256(index).to_quantity()}};
}

Json receipt_json() {
  return {{"transactionHash", kHash},
          {"blockNumber", "0x10"},
          {"blockHash", kBlockHash},
          {"status", "0x1"},
          {"gasUsed", "0x5208"},
          {"effectiveGasPrice", "0x3b9aca00"},
          {"logs", Json::array({log_json(16, 0)})}};
}

Json changed(Json object, const char* name, Json value) {
  object[name] = std::move(value);
  return object;
}

LogFilter filter(std::uint64_t from, std::uint64_t to) {
  return {address(kEscrow), hash(kTopic), from, to};
}

}  // namespace

TEST_SUITE("evm/rpc") {
  TEST_CASE("the first endpoint is asked for its chain once, then for what is wanted") {
    World world;
    world.both("eth_blockNumber", World::result("0x10"));
    Rpc rpc = world.rpc();
    CHECK(*rpc.block_number() == 16);
    CHECK(*rpc.block_number() == 16);
    CHECK(world.asked == "a eth_chainId a eth_blockNumber a eth_blockNumber");
  }

  TEST_CASE("an endpoint that fails in any way is passed over for the next") {
    for (const World::Answer& failure :
         {World::lost(Errc::timeout), World::lost(Errc::frame_too_large), World::raw(429, "slow"),
          World::raw(200, "<html>"), World::raw(200, "[]"), World::raw(200, "{\"id\":1}"),
          World::result(nullptr), World::result(16), World::result("16"), World::result("0x"),
          World::result("0x1ffffffffffffffff"), World::error(-32005, "limit exceeded"),
          World::raw(200, "{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":\"0x1\"}"),
          World::raw(200, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"no\"}")}) {
      World world;
      world.on(kA, "eth_blockNumber", failure);
      world.on(kB, "eth_blockNumber", World::result("0x11"));
      Rpc rpc = world.rpc();
      const Result<std::uint64_t> number = rpc.block_number();
      REQUIRE(number);
      CHECK(*number == 17);
    }
  }

  TEST_CASE("an endpoint that failed rests, then has to show its chain again") {
    World world;
    world.on(kA, "eth_blockNumber", World::lost(Errc::timeout));
    world.then(kA, "eth_blockNumber", World::result("0x10"));
    world.on(kB, "eth_blockNumber", World::result("0x11"));
    Rpc rpc = world.rpc();
    CHECK(*rpc.block_number() == 17);
    world.asked.clear();
    CHECK(*rpc.block_number() == 17);
    CHECK(world.asked == "b eth_blockNumber");
    world.now += 31s;
    world.asked.clear();
    CHECK(*rpc.block_number() == 16);
    CHECK(world.asked == "a eth_chainId a eth_blockNumber");
  }

  TEST_CASE("an endpoint of another chain is never asked for anything else") {
    World world;
    world.on(kA, "eth_chainId", World::result("0x61"));
    world.on(kB, "eth_chainId", World::result("0x1"));
    Rpc rpc = world.rpc();
    const Result<std::uint64_t> number = rpc.block_number();
    REQUIRE_FALSE(number);
    CHECK(number.error().code == Errc::chain_mismatch);
    CHECK(world.asked == "a eth_chainId b eth_chainId");
  }

  TEST_CASE("an error names hosts, and never what stands beside them in a URL") {
    World world;
    world.both("eth_chainId", World::lost(Errc::timeout));
    Rpc rpc = world.rpc();
    const Result<std::uint64_t> number = rpc.block_number();
    REQUIRE_FALSE(number);
    CHECK(number.error().code == Errc::chain_unavailable);
    CHECK(number.error().detail == "a.example: timeout; b.example:8545: timeout");
    CHECK(host_of("http://x.example?apikey=secret") == "x.example");
    CHECK(Rpc({}, {}).block_number().error().code == Errc::chain_unavailable);
  }

  TEST_CASE("a cancelled call asks nobody else") {
    World world;
    world.both("eth_chainId", World::lost(Errc::cancelled));
    Rpc rpc = world.rpc();
    CHECK(rpc.block_number().error().code == Errc::cancelled);
    CHECK(world.asked == "a eth_chainId");
  }

  TEST_CASE("nodes' words for what is wrong with a transaction have stable codes") {
    struct Saying {
      std::string_view words;
      Errc code;
    };
    for (const Saying& saying :
         {Saying{"nonce too low: next nonce 5, tx nonce 4", Errc::nonce_taken},
          Saying{"OldNonce", Errc::nonce_taken},
          Saying{"replacement transaction underpriced", Errc::fee_too_low},
          Saying{"max fee per gas less than block base fee", Errc::fee_too_low},
          Saying{"insufficient funds for gas * price + value", Errc::funds_insufficient}}) {
      World world;
      world.both("eth_sendRawTransaction", World::error(-32000, std::string(saying.words)));
      Rpc rpc = world.rpc();
      const Result<Bytes32> sent = rpc.send_transaction(Bytes{1});
      REQUIRE_FALSE(sent);
      CHECK(sent.error().code == saying.code);
      CHECK(world.asked == "a eth_chainId a eth_sendRawTransaction");
    }
  }

  TEST_CASE("a transaction is sent when the pool has it, already or now") {
    const Bytes raw{2, 1, 0};
    const Bytes32 hash = keccak256(raw);
    World world;
    world.both("eth_sendRawTransaction", World::result(to_hex0x(hash)));
    Rpc rpc = world.rpc();
    CHECK(*rpc.send_transaction(raw) == hash);
    CHECK(world.parameters.back() == Json::array({"0x020100"}));
    world.both("eth_sendRawTransaction", World::error(-32000, "already known"));
    CHECK(*rpc.send_transaction(raw) == hash);
    world.on(kA, "eth_sendRawTransaction", World::lost(Errc::timeout));
    CHECK(*rpc.send_transaction(raw) == hash);
    world.now += 31s;
    world.both("eth_sendRawTransaction", World::result(kHash));
    CHECK(rpc.send_transaction(raw).error().code == Errc::chain_answer_malformed);
  }

  TEST_CASE("a revert is told with its reason, and is final") {
    const Bytes reason = *encode_abi("(string)", {std::string("not \x1b[31mallowed")});
    World world;
    world.both("eth_call", World::error(3, "execution reverted", "0x08c379a0" + to_hex(reason)));
    Rpc rpc = world.rpc();
    const Result<Bytes> answer = rpc.call({.to = address(kEscrow), .data = {1}});
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == Errc::call_reverted);
    CHECK(answer.error().detail == "execution reverted: not ?[31mallowed");
    world.both("eth_call", World::error(3, "execution reverted", "0x12345678"));
    CHECK(rpc.call({.to = address(kEscrow)}).error().detail ==
          "execution reverted: error 0x12345678");
    CHECK(world.asked == "a eth_chainId a eth_call a eth_call");
  }

  TEST_CASE("a call carries its sender, data and value, and reads bytes") {
    World world;
    world.both("eth_call", World::result("0x0102"));
    world.both("eth_estimateGas", World::result("0x5208"));
    Rpc rpc = world.rpc();
    const Call call{address(kEscrow), address(kEscrow), {0xab}, 5};
    CHECK(*rpc.call(call, BlockTag::at(16)) == Bytes{1, 2});
    CHECK(world.parameters.back().dump() == R"([{"data":"0xab","from":")" + kEscrow +
                                                R"(","to":")" + kEscrow +
                                                R"(","value":"0x5"},"0x10"])");
    CHECK(*rpc.estimate_gas(call) == 21'000);
  }

  TEST_CASE("receipts are read whole, and absent ones are nothing") {
    World world;
    world.both("eth_getTransactionReceipt", World::result(receipt_json()));
    Rpc rpc = world.rpc();
    const Result<std::optional<Receipt>> receipt = rpc.receipt(hash(kHash));
    REQUIRE(receipt);
    REQUIRE(receipt->has_value());
    CHECK((*receipt)->succeeded);
    CHECK((*receipt)->block_number == 16);
    CHECK((*receipt)->gas_used == 21'000);
    CHECK((*receipt)->gas_price == U256(1'000'000'000));
    REQUIRE((*receipt)->logs.size() == 1);
    CHECK((*receipt)->logs[0].topics.size() == 2);

    world.both("eth_getTransactionReceipt", World::result(nullptr));
    CHECK_FALSE(rpc.receipt(hash(kHash))->has_value());
  }

  TEST_CASE("a receipt that cannot be is the endpoint's failure") {
    for (const Json& wrong :
         {changed(receipt_json(), "transactionHash", word(1)),
          changed(receipt_json(), "status", "0x2"), changed(receipt_json(), "status", nullptr),
          changed(receipt_json(), "blockHash", "0x1"), changed(receipt_json(), "gasUsed", 5),
          changed(receipt_json(), "logs", Json::array({1})),
          changed(receipt_json(), "logs",
                  Json::array({changed(log_json(16, 0), "transactionHash", word(2))})),
          changed(receipt_json(), "logs",
                  Json::array({changed(log_json(16, 0), "topics", Json::array({"0x1"}))})),
          Json("text")}) {
      World world;
      world.both("eth_getTransactionReceipt", World::result(wrong));
      Rpc rpc = world.rpc();
      const Result<std::optional<Receipt>> receipt = rpc.receipt(hash(kHash));
      REQUIRE_FALSE(receipt);
      CHECK(receipt.error().code == Errc::chain_answer_malformed);
    }
  }

  TEST_CASE("logs come by ranges that endpoints allow, in order") {
    World world;
    world.both("eth_getLogs", World::result(Json::array({log_json(0, 3), log_json(99, 0)})));
    world.then(kA, "eth_getLogs", World::result(Json::array()));
    world.then(kA, "eth_getLogs", World::result(Json::array({log_json(200, 1)})));
    Rpc rpc = world.rpc();
    const Result<std::vector<Log>> logs = rpc.logs(filter(0, 200));
    REQUIRE(logs);
    REQUIRE(logs->size() == 3);
    CHECK(logs->back().block_number == 200);
    CHECK(world.parameters.back()[0]["fromBlock"] == "0xc8");
    CHECK(world.parameters.back()[0]["toBlock"] == "0xc8");
    CHECK(rpc.logs(filter(5, 4))->empty());
  }

  TEST_CASE("logs that were not asked for, or stand in another order, are refused") {
    for (const Json& wrong :
         {Json::array({log_json(101, 0)}), Json::array({log_json(5, 1), log_json(5, 1)}),
          Json::array({log_json(5, 1), log_json(4, 0)}),
          Json::array({changed(log_json(5, 0), "address", "0x" + std::string(40, '1'))}),
          Json::array({changed(log_json(5, 0), "topics", Json::array({word(1)}))}),
          Json::array({changed(log_json(5, 0), "topics", Json::array())}), Json("none")}) {
      World world;
      world.both("eth_getLogs", World::result(wrong));
      Rpc rpc = world.rpc();
      const Result<std::vector<Log>> logs = rpc.logs(filter(0, 99));
      REQUIRE_FALSE(logs);
      CHECK(logs.error().code == Errc::chain_answer_malformed);
    }
  }

  TEST_CASE("blocks, balances, counts and code are read as they are asked for") {
    World world;
    const Json block = {{"number", "0x10"},
                        {"hash", kBlockHash},
                        {"parentHash", kHash},
                        {"timestamp", "0x64"},
                        {"baseFeePerGas", "0x7"}};
    world.both("eth_getBlockByNumber", World::result(block));
    world.both("eth_getBalance", World::result("0xde0b6b3a7640000"));
    world.both("eth_getTransactionCount", World::result("0x7"));
    world.both("eth_getCode", World::result("0x6001"));
    world.both("eth_getTransactionByHash", World::result({{"hash", kHash}}));
    Rpc rpc = world.rpc();
    CHECK((*rpc.block(BlockTag::at(16)))->base_fee == U256(7));
    CHECK(rpc.block(BlockTag::at(17)).error().code == Errc::chain_answer_malformed);
    CHECK(rpc.balance(address(kEscrow))->to_decimal() == "1000000000000000000");
    CHECK(*rpc.transaction_count(address(kEscrow), BlockTag::pending()) == 7);
    CHECK(world.parameters.back() == Json::array({kEscrow, "pending"}));
    CHECK(rpc.code(address(kEscrow))->size() == 2);
    CHECK(*rpc.knows_transaction(hash(kHash)));
    world.both("eth_getTransactionByHash", World::result(nullptr));
    CHECK_FALSE(*rpc.knows_transaction(hash(kHash)));
  }

  TEST_CASE("fees follow recent blocks, and never fall below the floor") {
    World world;
    world.both(
        "eth_feeHistory",
        World::result(
            {{"baseFeePerGas", {"0x5", "0x64"}},
             {"reward", {Json::array({"0x3"}), Json::array({"0x9"}), Json::array({"0x5"})}}}));
    Rpc rpc = world.rpc();
    CHECK(*rpc.fees(1) == Fees{205, 5});
    CHECK(*rpc.fees(50) == Fees{250, 50});
    world.both("eth_feeHistory", World::result({{"baseFeePerGas", Json::array()}}));
    CHECK(rpc.fees(1).error().code == Errc::chain_answer_malformed);
  }
}

TEST_SUITE("evm/fees") {
  TEST_CASE("a raised offer replaces the stuck one, and follows the market") {
    CHECK(*raise_fees({800, 80}, {100, 10}) == Fees{901, 91});
    CHECK(*raise_fees({800, 80}, {2000, 10}) == Fees{2000, 91});
    CHECK(*raise_fees({0, 0}, {0, 0}) == Fees{1, 1});
    CHECK_FALSE(raise_fees({U256::max(), 1}, {1, 1}));
  }

  TEST_CASE("an offer beyond 256 bits is none") {
    CHECK_FALSE(estimate_fees({U256::max(), {}}, 1));
    CHECK(*estimate_fees({10, {}}, 3) == Fees{23, 3});
  }
}

}  // namespace farmesh::evm
