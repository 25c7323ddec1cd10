#include "net/accept_gate.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <unordered_map>
#include <utility>

namespace farmesh::net {
namespace {

// Addresses that are remembered; those without links are forgotten once their allowance is whole.
constexpr std::size_t kMaxAddresses = 16'384;
constexpr std::chrono::seconds kForgetEvery{1};

}  // namespace

struct AcceptGate::State {
  struct Address {
    std::size_t links = 0;
    double allowance = 0;  // handshakes it could begin at `counted_at`
    TimePoint counted_at{};
  };

  double allowance(const Address& address, TimePoint now) const {
    const std::chrono::duration<double> passed = now - address.counted_at;
    return std::min(limits.handshake_burst,
                    address.allowance + passed.count() * limits.handshakes_per_second);
  }

  void forget_idle(TimePoint now) {
    if (now - forgot_at < kForgetEvery) return;
    forgot_at = now;
    std::erase_if(addresses, [&](const auto& entry) {
      return entry.second.links == 0 && allowance(entry.second, now) >= limits.handshake_burst;
    });
  }

  LinkLimits limits;
  std::size_t links = 0;
  std::unordered_map<std::string, Address> addresses;
  std::map<NodeId, std::size_t> keys;  // with at least one link
  TimePoint forgot_at = TimePoint::min() + kForgetEvery;
};

struct AcceptGate::Ticket::Counted {
  std::shared_ptr<State> state;
  std::string address;
  std::optional<NodeId> id;
};

AcceptGate::AcceptGate(const LinkLimits& limits) : state_(std::make_shared<State>()) {
  state_->limits = limits;
}

Result<AcceptGate::Ticket> AcceptGate::admit(const std::string& address, TimePoint now) {
  State& state = *state_;
  if (state.links >= state.limits.max_accepted_links) {
    return {Errc::busy, "as many connections as this node takes"};
  }
  if (state.addresses.size() >= kMaxAddresses) state.forget_idle(now);
  if (state.addresses.size() >= kMaxAddresses && !state.addresses.contains(address)) {
    return {Errc::busy, "connections from too many addresses"};
  }
  State::Address fresh;
  fresh.allowance = state.limits.handshake_burst;
  fresh.counted_at = now;
  State::Address& known = state.addresses.try_emplace(address, fresh).first->second;
  if (known.links >= state.limits.max_links_per_address) {
    return {Errc::busy, "as many connections as one address may have"};
  }
  const double allowance = state.allowance(known, now);
  if (allowance < 1) return {Errc::quota, "too many handshakes from one address"};
  known.allowance = allowance - 1;
  known.counted_at = now;
  ++known.links;
  ++state.links;
  auto counted = std::make_unique<Ticket::Counted>();
  counted->state = state_;
  counted->address = address;
  return Ticket(std::move(counted));
}

std::size_t AcceptGate::links() const noexcept { return state_->links; }

AcceptGate::Ticket::Ticket(std::unique_ptr<Counted> counted) : counted_(std::move(counted)) {}
AcceptGate::Ticket::Ticket(Ticket&& other) noexcept = default;

AcceptGate::Ticket::~Ticket() {
  if (!counted_) return;
  State& state = *counted_->state;
  --state.links;
  --state.addresses[counted_->address].links;  // with links it is never forgotten
  if (!counted_->id) return;
  const auto key = state.keys.find(*counted_->id);
  if (--key->second == 0) state.keys.erase(key);
}

Result<void> AcceptGate::Ticket::identify(const NodeId& id) {
  std::size_t& links = counted_->state->keys[id];
  if (links >= counted_->state->limits.max_links_per_key) {
    return {Errc::quota, "as many connections as one node may have"};
  }
  ++links;
  counted_->id = id;
  return {};
}

}  // namespace farmesh::net
