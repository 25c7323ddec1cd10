#include "evm/rpc.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "evm/json_rpc.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

constexpr int kFeeBlocks = 20;
constexpr double kFeePercentile = 50;  // JSON-RPC has it as a number with a fraction
constexpr std::size_t kMaxCodeBytes = 64 * 1024;
constexpr std::size_t kMaxCallBytes = 8 * 1024 * 1024;
constexpr std::size_t kMaxLogBytes = 64 * 1024;
constexpr std::size_t kMaxTopics = 4;

Error malformed(const std::string& why) { return {Errc::chain_answer_malformed, why}; }

std::string quantity(std::uint64_t value) { return U256(value).to_quantity(); }

Json tag_json(const BlockTag& tag) {
  switch (tag.kind) {
    case BlockTag::Kind::latest: return "latest";
    case BlockTag::Kind::pending: return "pending";
    case BlockTag::Kind::number: return quantity(tag.number);
  }
  return "latest";
}

Json call_json(const Call& call) {
  Json object = {{"to", to_lower_case(call.to)}, {"data", to_hex0x(call.data)}};
  if (call.from) object["from"] = to_lower_case(*call.from);
  if (!call.value.is_zero()) object["value"] = call.value.to_quantity();
  return object;
}

// --- reading results: every field is checked, the first that is wrong is remembered ------------

/// Reads the fields of one object.
class ObjectReader {
 public:
  explicit ObjectReader(const Json& object) : object_(object) {
    if (!object.is_object()) fail("object");
  }

  std::string_view text(const char* name) {
    const auto found = object_.is_object() ? object_.find(name) : object_.end();
    if (found == object_.end() || !found->is_string()) {
      fail(name);
      return {};
    }
    return found->get_ref<const std::string&>();
  }
  bool has(const char* name) const {
    const auto found = object_.is_object() ? object_.find(name) : object_.end();
    return found != object_.end() && !found->is_null();
  }
  U256 number(const char* name) {
    const Result<U256> value = U256::parse_quantity(text(name));
    if (!value) fail(name);
    return value ? *value : U256();
  }
  std::uint64_t number64(const char* name) {
    const std::optional<std::uint64_t> value = number(name).to_uint64();
    if (!value) fail(name);
    return value.value_or(0);
  }
  Bytes32 hash(const char* name) {
    Bytes32 value{};
    if (!parse_hex0x_into(text(name), value)) fail(name);
    return value;
  }
  Address address(const char* name) {
    // Endpoints differ in the case they write; a checksum protects what people type.
    Address value;
    if (!parse_hex0x_into(text(name), value.bytes)) fail(name);
    return value;
  }
  Bytes bytes(const char* name, std::size_t most) {
    Result<Bytes> value = parse_hex0x(text(name), most);
    if (!value) fail(name);
    return value ? *std::move(value) : Bytes();
  }
  const Json* array(const char* name, std::size_t most) {
    const auto found = object_.is_object() ? object_.find(name) : object_.end();
    if (found == object_.end() || !found->is_array() || found->size() > most) {
      fail(name);
      return nullptr;
    }
    return &*found;
  }

  void fail(const char* name) {
    if (wrong_.empty()) wrong_ = name;
  }
  Result<void> done() const {
    if (wrong_.empty()) return {};
    return malformed("a " + wrong_ + " that is missing or wrong");
  }

 private:
  const Json& object_;
  std::string wrong_;
};

JsonRpc::Reader read_quantity(U256& to) {
  return [&to](const Json& result) -> Result<void> {
    if (!result.is_string()) return malformed("a number that is no text");
    const Result<U256> value = U256::parse_quantity(result.get_ref<const std::string&>());
    if (!value) return malformed(value.error().detail);
    to = *value;
    return {};
  };
}

JsonRpc::Reader read_uint64(std::uint64_t& to) {
  return [&to](const Json& result) -> Result<void> {
    U256 value;
    if (const Result<void> read = read_quantity(value)(result); !read) return read;
    const std::optional<std::uint64_t> small = value.to_uint64();
    if (!small) return malformed("a number beyond 64 bits");
    to = *small;
    return {};
  };
}

JsonRpc::Reader read_bytes(Bytes& to, std::size_t most) {
  return [&to, most](const Json& result) -> Result<void> {
    if (!result.is_string()) return malformed("bytes that are no text");
    Result<Bytes> value = parse_hex0x(result.get_ref<const std::string&>(), most);
    if (!value) return malformed(value.error().detail);
    to = *std::move(value);
    return {};
  };
}

Result<void> read_block(const Json& result, std::optional<Block>& to) {
  to.reset();
  if (result.is_null()) return {};
  ObjectReader fields(result);
  Block block;
  block.number = fields.number64("number");
  block.hash = fields.hash("hash");
  block.parent_hash = fields.hash("parentHash");
  block.timestamp = fields.number64("timestamp");
  if (fields.has("baseFeePerGas")) block.base_fee = fields.number("baseFeePerGas");
  if (const Result<void> done = fields.done(); !done) return done;
  to = block;
  return {};
}

Result<void> read_log(const Json& object, Log& log) {
  ObjectReader fields(object);
  log.address = fields.address("address");
  log.data = fields.bytes("data", kMaxLogBytes);
  log.block_number = fields.number64("blockNumber");
  log.block_hash = fields.hash("blockHash");
  log.transaction_hash = fields.hash("transactionHash");
  log.index = fields.number64("logIndex");
  if (const Json* topics = fields.array("topics", kMaxTopics)) {
    for (const Json& topic : *topics) {
      Bytes32 value{};
      if (!topic.is_string() || !parse_hex0x_into(topic.get_ref<const std::string&>(), value)) {
        fields.fail("topics");
        break;
      }
      log.topics.push_back(value);
    }
  }
  return fields.done();
}

Result<void> read_receipt(const Json& result, const Bytes32& asked, std::size_t max_logs,
                          std::optional<Receipt>& to) {
  to.reset();
  if (result.is_null()) return {};
  ObjectReader fields(result);
  // Some endpoints tell of waiting transactions so.
  if (result.is_object() && !fields.has("blockNumber")) return {};
  Receipt receipt;
  receipt.transaction_hash = fields.hash("transactionHash");
  receipt.block_number = fields.number64("blockNumber");
  receipt.block_hash = fields.hash("blockHash");
  const std::uint64_t status = fields.number64("status");
  receipt.succeeded = status == 1;
  if (status > 1) fields.fail("status");
  receipt.gas_used = fields.number64("gasUsed");
  if (fields.has("effectiveGasPrice")) receipt.gas_price = fields.number("effectiveGasPrice");
  if (const Json* logs = fields.array("logs", max_logs)) {
    for (const Json& object : *logs) {
      Log log;
      if (const Result<void> read = read_log(object, log); !read) return read;
      if (log.transaction_hash != asked || log.block_hash != receipt.block_hash) {
        fields.fail("logs");
      }
      receipt.logs.push_back(std::move(log));
    }
  }
  if (const Result<void> done = fields.done(); !done) return done;
  if (receipt.transaction_hash != asked) return malformed("a receipt of another transaction");
  to = std::move(receipt);
  return {};
}

Result<void> read_fee_history(const Json& result, FeeHistory& history) {
  history = {};
  ObjectReader fields(result);
  const Json* base_fees = fields.array("baseFeePerGas", kFeeBlocks + 1);
  if (base_fees == nullptr || base_fees->empty()) return malformed("a fee history without fees");
  if (const Result<void> read = read_quantity(history.next_base_fee)(base_fees->back()); !read) {
    return read;
  }
  if (!fields.has("reward")) return fields.done();
  const Json* rewards = fields.array("reward", kFeeBlocks);
  if (rewards == nullptr) return fields.done();
  for (const Json& of_block : *rewards) {
    if (!of_block.is_array() || of_block.size() != 1) return malformed("rewards of a wrong shape");
    U256 reward;
    if (const Result<void> read = read_quantity(reward)(of_block[0]); !read) return read;
    history.rewards.push_back(reward);
  }
  return fields.done();
}

bool comes_before(const Log& a, const Log& b) {
  return std::pair(a.block_number, a.index) < std::pair(b.block_number, b.index);
}

}  // namespace

struct Rpc::Impl {
  RpcOptions options;
  JsonRpc json;

  Impl(RpcOptions chosen, HttpPost post)
      : options(std::move(chosen)), json(options, std::move(post)) {}

  Result<std::vector<Log>> some_logs(const LogFilter& filter);
};

Rpc::Rpc(RpcOptions options, HttpPost post)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(post))) {}
Rpc::Rpc(Rpc&&) noexcept = default;
Rpc& Rpc::operator=(Rpc&&) noexcept = default;
Rpc::~Rpc() = default;

Result<std::uint64_t> Rpc::block_number() {
  std::uint64_t number = 0;
  const Result<void> asked =
      impl_->json.call("eth_blockNumber", Json::array(), read_uint64(number));
  if (!asked) return asked.error();
  return number;
}

Result<std::optional<Block>> Rpc::block(BlockTag tag) {
  std::optional<Block> block;
  const Result<void> asked = impl_->json.call(
      "eth_getBlockByNumber", Json::array({tag_json(tag), false}),
      [&block, tag](const Json& result) -> Result<void> {
        if (const Result<void> read = read_block(result, block); !read) return read;
        if (block && tag.kind == BlockTag::Kind::number && block->number != tag.number) {
          return malformed("another block than the one asked for");
        }
        return {};
      });
  if (!asked) return asked.error();
  return block;
}

Result<std::uint64_t> Rpc::transaction_count(const Address& address, BlockTag tag) {
  std::uint64_t count = 0;
  const Result<void> asked =
      impl_->json.call("eth_getTransactionCount",
                       Json::array({to_lower_case(address), tag_json(tag)}), read_uint64(count));
  if (!asked) return asked.error();
  return count;
}

Result<U256> Rpc::balance(const Address& address, BlockTag tag) {
  U256 balance;
  const Result<void> asked =
      impl_->json.call("eth_getBalance", Json::array({to_lower_case(address), tag_json(tag)}),
                       read_quantity(balance));
  if (!asked) return asked.error();
  return balance;
}

Result<Bytes> Rpc::code(const Address& address, BlockTag tag) {
  Bytes code;
  const Result<void> asked =
      impl_->json.call("eth_getCode", Json::array({to_lower_case(address), tag_json(tag)}),
                       read_bytes(code, kMaxCodeBytes));
  if (!asked) return asked.error();
  return code;
}

Result<Bytes> Rpc::call(const Call& call, BlockTag tag) {
  Bytes answer;
  const Result<void> asked = impl_->json.call(
      "eth_call", Json::array({call_json(call), tag_json(tag)}), read_bytes(answer, kMaxCallBytes));
  if (!asked) return asked.error();
  return answer;
}

Result<std::uint64_t> Rpc::estimate_gas(const Call& call) {
  std::uint64_t gas = 0;
  const Result<void> asked =
      impl_->json.call("eth_estimateGas", Json::array({call_json(call)}), read_uint64(gas));
  if (!asked) return asked.error();
  return gas;
}

Result<Fees> Rpc::fees(const U256& priority_floor) {
  FeeHistory history;
  const Result<void> asked = impl_->json.call(
      "eth_feeHistory",
      Json::array({quantity(kFeeBlocks), "latest", Json::array({kFeePercentile})}),
      [&history](const Json& result) { return read_fee_history(result, history); });
  if (!asked) return asked.error();
  const std::optional<Fees> fees = estimate_fees(std::move(history), priority_floor);
  if (!fees) return malformed("fees beyond 256 bits");
  return *fees;
}

Result<Bytes32> Rpc::send_transaction(BytesView raw) {
  const Bytes32 hash = keccak256(raw);
  const Result<void> asked = impl_->json.call(
      "eth_sendRawTransaction", Json::array({to_hex0x(raw)}),
      [&hash](const Json& result) -> Result<void> {
        Bytes32 told{};
        if (!result.is_string() || !parse_hex0x_into(result.get_ref<const std::string&>(), told) ||
            told != hash) {
          return malformed("another hash than the transaction's");
        }
        return {};
      });
  if (!asked && asked.error().code != Errc::transaction_known) return asked.error();
  return hash;
}

Result<std::optional<Receipt>> Rpc::receipt(const Bytes32& transaction_hash) {
  std::optional<Receipt> receipt;
  const Result<void> asked = impl_->json.call(
      "eth_getTransactionReceipt", Json::array({to_hex0x(transaction_hash)}),
      [this, &receipt, &transaction_hash](const Json& result) {
        return read_receipt(result, transaction_hash, impl_->options.max_logs, receipt);
      });
  if (!asked) return asked.error();
  return receipt;
}

Result<bool> Rpc::knows_transaction(const Bytes32& transaction_hash) {
  bool known = false;
  const Result<void> asked =
      impl_->json.call("eth_getTransactionByHash", Json::array({to_hex0x(transaction_hash)}),
                       [&known, &transaction_hash](const Json& result) -> Result<void> {
                         known = !result.is_null();
                         if (!known) return {};
                         ObjectReader fields(result);
                         if (fields.hash("hash") != transaction_hash) fields.fail("hash");
                         return fields.done();
                       });
  if (!asked) return asked.error();
  return known;
}

Result<std::vector<Log>> Rpc::logs(const LogFilter& filter) {
  std::vector<Log> all;
  const std::uint64_t span = std::max<std::uint64_t>(impl_->options.max_log_blocks, 1);
  for (std::uint64_t from = filter.from_block; from <= filter.to_block;) {
    LogFilter part = filter;
    part.from_block = from;
    part.to_block = from + std::min(span - 1, filter.to_block - from);
    Result<std::vector<Log>> some = impl_->some_logs(part);
    if (!some) return some;
    std::ranges::move(*some, std::back_inserter(all));
    if (part.to_block == filter.to_block) break;
    from = part.to_block + 1;
  }
  return all;
}

Result<std::vector<Log>> Rpc::Impl::some_logs(const LogFilter& filter) {
  std::vector<Log> logs;
  const Json parameters = Json::array({{{"address", to_lower_case(filter.address)},
                                        {"topics", Json::array({to_hex0x(filter.topic)})},
                                        {"fromBlock", quantity(filter.from_block)},
                                        {"toBlock", quantity(filter.to_block)}}});
  const Result<void> asked =
      json.call("eth_getLogs", parameters, [this, &logs, &filter](const Json& result) {
        logs.clear();
        if (!result.is_array() || result.size() > options.max_logs) {
          return Result<void>(malformed("logs that are no array, or too many"));
        }
        for (const Json& object : result) {
          Log log;
          if (const Result<void> read = read_log(object, log); !read) return read;
          if (log.address != filter.address || log.topics.empty() ||
              log.topics[0] != filter.topic || log.block_number < filter.from_block ||
              log.block_number > filter.to_block) {
            return Result<void>(malformed("a log that was not asked for"));
          }
          if (!logs.empty() && !comes_before(logs.back(), log)) {
            return Result<void>(malformed("logs that are out of order"));
          }
          logs.push_back(std::move(log));
        }
        return Result<void>();
      });
  if (!asked) return asked.error();
  return logs;
}

}  // namespace farmesh::evm
