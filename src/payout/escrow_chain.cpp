#include "payout/escrow_chain.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "evm/abi.hpp"
#include "evm/keccak.hpp"

namespace farmesh::payout {
namespace {

constexpr std::string_view kDeposited = "Deposited(address,address,uint256)";
constexpr std::string_view kWithdrawn = "Withdrawn(address,address,uint256)";
constexpr std::string_view kRequested = "WithdrawalRequested(address,uint256,uint256)";

// What an event of the escrow says of its user's money.
struct MovementEvent {
  std::string_view signature;
  Movement::Kind kind;
  std::size_t topics;
  std::string_view data;  // the amount comes first
};
constexpr std::array kMovements = {
    MovementEvent{kDeposited, Movement::Kind::deposit, 3, "(uint256)"},
    MovementEvent{kWithdrawn, Movement::Kind::withdrawal, 3, "(uint256)"},
    MovementEvent{kRequested, Movement::Kind::request, 2, "(uint256,uint256)"},
};

Error malformed(const char* what) {
  return {Errc::chain_answer_malformed, std::string("the escrow's answer: ") + what};
}

class EscrowChain final : public Chain {
 public:
  EscrowChain(EscrowChainOptions options, evm::HttpPost post)
      : options_(std::move(options)), rpc_(options_.rpc, std::move(post)) {}

  std::uint64_t id() const override { return options_.rpc.chain_id; }
  evm::Address escrow() const override { return options_.escrow; }
  Result<std::uint64_t> head() override { return rpc_.block_number(); }

  Result<std::optional<evm::Bytes32>> block_hash(std::uint64_t number) override {
    const auto block = rpc_.block(evm::BlockTag::at(number));
    if (!block) return block.error();
    return *block ? std::optional((*block)->hash) : std::nullopt;
  }

  Result<std::uint64_t> next_nonce(const evm::Address& sender) override {
    return rpc_.transaction_count(sender, evm::BlockTag::latest());
  }

  Result<evm::Fees> fees() override { return rpc_.fees(options_.priority_floor); }

  Result<std::uint64_t> estimate_gas(const evm::Address& from, const evm::Bytes& data) override {
    return rpc_.estimate_gas({from, options_.escrow, data, {}});
  }

  Result<void> send(const evm::Bytes& raw) override {
    const auto sent = rpc_.send_transaction(raw);
    return sent ? Result<void>() : sent.error();
  }

  Result<std::optional<evm::Receipt>> receipt(const evm::Bytes32& hash) override {
    return rpc_.receipt(hash);
  }

  Result<EscrowBatch> batch(const evm::Bytes32& key) override {
    const auto values = ask("batchOf(bytes32)", {key}, "(bytes32,uint96,uint64)");
    if (!values) return values.error();
    const auto block = (*values)[2].number().to_uint64();
    if (!block) return malformed("a block number");
    return EscrowBatch{*block, (*values)[0].word()};
  }

  Result<EscrowAccount> account(const evm::Address& user) override {
    const auto whole = ask("accountOf(address)", {user}, "(uint96,uint96,uint64)");
    if (!whole) return whole.error();
    const auto chargeable = ask("chargeableOf(address)", {user}, "(uint256)");
    if (!chargeable) return chargeable.error();
    return EscrowAccount{(*whole)[0].number(), (*chargeable)[0].number(), (*whole)[1].number()};
  }

  Result<EscrowHold> hold(const evm::Address& user, const evm::Bytes32& request) override {
    const auto values =
        ask("reservationOf(address,bytes32)", {user, request}, "(uint96,uint64,uint8)");
    if (!values) return values.error();
    const auto deadline = (*values)[1].number().to_uint64();
    const auto state = (*values)[2].number().to_uint64();
    if (!deadline || !state || *state > std::uint64_t(EscrowHold::State::closed)) {
      return malformed("a reservation");
    }
    return EscrowHold{EscrowHold::State(*state), (*values)[0].number(), *deadline};
  }

  Result<bool> takes_from(const evm::Address& settler) override {
    const auto paused = ask("paused()", {}, "(bool)");
    if (!paused) return paused.error();
    if (!(*paused)[0].number().is_zero()) return false;
    const auto role =
        ask("hasRole(bytes32,address)", {evm::keccak256("SETTLER_ROLE"), settler}, "(bool)");
    return role ? Result<bool>(!(*role)[0].number().is_zero()) : role.error();
  }

  Result<std::uint64_t> max_fee_bps() override {
    const auto values = ask("maxFeeBps()", {}, "(uint96)");
    if (!values) return values.error();
    const auto bps = (*values)[0].number().to_uint64();
    return bps ? Result<std::uint64_t>(*bps) : malformed("a fee");
  }

  Result<std::vector<Movement>> movements(std::uint64_t from, std::uint64_t to) override {
    using Place = std::pair<std::uint64_t, std::uint64_t>;  // block, log index
    std::map<Place, Movement> found;
    for (const MovementEvent& event : kMovements) {
      const auto logs = rpc_.logs({options_.escrow, evm::event_topic(event.signature), from, to});
      if (!logs) return logs.error();
      for (const evm::Log& log : *logs) {
        if (log.topics.size() != event.topics) return malformed("topics");
        const auto values = evm::decode_abi(event.data, log.data);
        if (!values) return malformed("an amount");
        Movement movement{
            event.kind,           {}, (*values)[0].number(), log.block_number, log.index,
            log.transaction_hash, 0};
        std::copy_n(log.topics[1].end() - 20, 20, movement.user.bytes.begin());
        found.emplace(Place(log.block_number, log.index), movement);
      }
    }
    std::vector<Movement> all;
    std::map<std::pair<evm::Bytes32, bool>, std::uint64_t> seen;
    for (auto& [place, movement] : found) {
      const bool wish = movement.kind == Movement::Kind::request;
      movement.ordinal = seen[{movement.transaction_hash, wish}]++;
      all.push_back(movement);
    }
    return all;
  }

  Result<void> check_contract() {
    const auto code = rpc_.code(options_.escrow);
    if (!code) return code.error();
    if (!code->empty()) return {};
    return Error{Errc::config_invalid, "there is no contract at " +
                                           evm::to_string(options_.escrow) + " on chain " +
                                           std::to_string(options_.rpc.chain_id)};
  }

 private:
  Result<evm::AbiValue::Members> ask(std::string_view call, const evm::AbiValue::Members& values,
                                     std::string_view answer) {
    auto data = evm::encode_call(call, values);
    if (!data) return data.error();
    const auto bytes = rpc_.call({std::nullopt, options_.escrow, *std::move(data), {}});
    if (!bytes) return bytes.error();
    auto decoded = evm::decode_abi(answer, *bytes);
    return decoded ? std::move(decoded) : malformed("not of its type");
  }

  EscrowChainOptions options_;
  evm::Rpc rpc_;
};

}  // namespace

Result<std::unique_ptr<Chain>> open_escrow_chain(EscrowChainOptions options, evm::HttpPost post) {
  auto chain = std::make_unique<EscrowChain>(std::move(options), std::move(post));
  const Result<void> there = chain->check_contract();
  if (!there) return there.error();
  return std::unique_ptr<Chain>(std::move(chain));
}

}  // namespace farmesh::payout
