// The chain, asked through JSON-RPC endpoints of strangers.
//
// Several endpoints stand behind one Rpc: each is asked for its chain id before anything else, and
// one that fails, lags out or answers nonsense is passed over for the next. What the chain itself
// says (a revert, a taken nonce) is final and is not asked again elsewhere.
// Blocking; confined to one thread at a time. Endpoints are named by host only, because their
// paths often hold a key.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.hpp"
#include "evm/address.hpp"
#include "evm/fees.hpp"
#include "evm/u256.hpp"

namespace farmesh::evm {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

/// Posts a JSON body to a URL within its own bounds of time and size. Fails as http::Client does.
using HttpPost = std::function<Result<HttpAnswer>(const std::string& url, const std::string& body)>;

struct RpcOptions {
  std::vector<std::string> endpoints;  // URLs, in the order of preference
  std::uint64_t chain_id = 0;
  std::chrono::seconds rest{30};         // how long an endpoint that failed is asked last
  std::function<TimePoint()> now;        // empty: the steady clock
  std::size_t max_logs = 10'000;         // in one answer
  std::uint64_t max_log_blocks = 2'000;  // in one question; longer ranges are cut into such
};

inline constexpr std::size_t kMaxRpcAnswerBytes = 32 * 1024 * 1024;
inline constexpr std::chrono::milliseconds kRpcTimeout{20'000};  // for a whole exchange

/// Which state is asked: a block, the newest, or the newest with what waits in the pool.
struct BlockTag {
  enum class Kind : std::uint8_t { latest, pending, number };
  Kind kind = Kind::latest;
  std::uint64_t number = 0;

  static BlockTag latest() { return {}; }
  static BlockTag pending() { return {Kind::pending, 0}; }
  static BlockTag at(std::uint64_t number) { return {Kind::number, number}; }
};

struct Block {
  std::uint64_t number = 0;
  Bytes32 hash{};
  Bytes32 parent_hash{};
  std::uint64_t timestamp = 0;  // Unix time, seconds
  U256 base_fee;                // wei; 0 where the chain has none
};

struct Call {
  std::optional<Address> from;
  Address to;
  Bytes data;
  U256 value;  // wei
};

struct Log {
  Address address;
  std::vector<Bytes32> topics;  // at most 4
  Bytes data;
  std::uint64_t block_number = 0;
  Bytes32 block_hash{};
  Bytes32 transaction_hash{};
  std::uint64_t index = 0;  // in the block
};

struct Receipt {
  Bytes32 transaction_hash{};
  std::uint64_t block_number = 0;
  Bytes32 block_hash{};
  bool succeeded = false;
  std::uint64_t gas_used = 0;
  U256 gas_price;  // wei per gas, as paid
  std::vector<Log> logs;
};

struct LogFilter {
  Address address;
  Bytes32 topic{};  // the event's
  std::uint64_t from_block = 0;
  std::uint64_t to_block = 0;  // inclusive
};

class Rpc {
 public:
  Rpc(RpcOptions options, HttpPost post);
  Rpc(Rpc&&) noexcept;
  Rpc& operator=(Rpc&&) noexcept;
  ~Rpc();

  // Every call fails with chain_unavailable, chain_mismatch, chain_answer_malformed,
  // chain_refused or cancelled, whichever tells most of what the endpoints did.

  Result<std::uint64_t> block_number();
  /// Nothing when there is no such block (yet).
  Result<std::optional<Block>> block(BlockTag tag);
  Result<std::uint64_t> transaction_count(const Address& address, BlockTag tag);
  Result<U256> balance(const Address& address, BlockTag tag = {});
  Result<Bytes> code(const Address& address, BlockTag tag = {});

  /// Fails with call_reverted too.
  Result<Bytes> call(const Call& call, BlockTag tag = {});
  Result<std::uint64_t> estimate_gas(const Call& call);

  /// What to offer now: from the 50th percentile of the last 20 blocks' priority fees.
  Result<Fees> fees(const U256& priority_floor);

  /// Hands a signed transaction to the pool and gives its hash; so too when the pool has it
  /// already. After chain_unavailable it may or may not be there: ask for its receipt, send the
  /// same bytes again. Fails with nonce_taken, fee_too_low, funds_insufficient, call_reverted too.
  Result<Bytes32> send_transaction(BytesView raw);

  /// Nothing while it is not mined, or no more since a reorganisation.
  Result<std::optional<Receipt>> receipt(const Bytes32& transaction_hash);
  /// Whether the endpoint knows the transaction, mined or waiting.
  Result<bool> knows_transaction(const Bytes32& transaction_hash);

  /// In the chain's order. Logs that were not asked for make the answer malformed.
  Result<std::vector<Log>> logs(const LogFilter& filter);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::evm
