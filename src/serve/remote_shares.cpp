#include "serve/remote_shares.hpp"

#include <algorithm>
#include <chrono>
#include <string>

namespace farmesh::serve {
namespace {

constexpr double kHour_s = 3'600;
// Keys are free, but each has had a connection here: 20 a second from one address, at most.
constexpr std::size_t kMaxAllowances = 65'536;

}  // namespace

Result<void> RemoteShares::allow(const SessionId& session, const NodeId& remote,
                                 std::uint32_t tokens) const {
  Share share;
  if (const auto known = shares_.find(remote); known != shares_.end()) share = known->second;
  const auto held = sessions_.find(session);
  if (held != sessions_.end() && held->second.remote == remote) {
    --share.sessions;
    share.tokens -= held->second.tokens;
  }
  if (share.sessions >= limits_.sessions) {
    return {Errc::quota,
            "one node may have " + std::to_string(limits_.sessions) + " sessions here"};
  }
  if (limits_.tokens > 0 && share.tokens + tokens > limits_.tokens) {
    return {Errc::quota, "one node may have " + std::to_string(limits_.tokens) +
                             " tokens of cache here, and has " + std::to_string(share.tokens)};
  }
  return {};
}

void RemoteShares::hold(const SessionId& session, const NodeId& remote, std::uint32_t tokens) {
  release(session);
  sessions_[session] = {remote, tokens};
  Share& share = shares_[remote];
  ++share.sessions;
  share.tokens += tokens;
}

void RemoteShares::release(const SessionId& session) {
  const auto held = sessions_.find(session);
  if (held == sessions_.end()) return;
  const auto share = shares_.find(held->second.remote);
  share->second.tokens -= held->second.tokens;
  if (--share->second.sessions == 0) shares_.erase(share);
  sessions_.erase(held);
}

Result<void> RemoteShares::spend(const NodeId& remote, std::uint64_t tokens, TimePoint now) {
  if (limits_.unpaid_tokens == 0) return {};
  Allowance& allowance = allowance_of(remote, now);
  const double left_now = left(allowance, now);
  if (double(tokens) > left_now) {
    return {Errc::quota, "one node may have " + std::to_string(limits_.unpaid_tokens) +
                             " tokens an hour here that nobody pays for"};
  }
  allowance = {left_now - double(tokens), now};
  return {};
}

double RemoteShares::left(const Allowance& allowance, TimePoint now) const noexcept {
  const double all = double(limits_.unpaid_tokens);
  const double seconds = std::chrono::duration<double>(now - allowance.at).count();
  return std::min(all, allowance.left + seconds * all / kHour_s);
}

RemoteShares::Allowance& RemoteShares::allowance_of(const NodeId& remote, TimePoint now) {
  const Allowance whole{double(limits_.unpaid_tokens), now};
  if (allowances_.size() >= kMaxAllowances && !allowances_.contains(remote)) {
    std::erase_if(allowances_, [&](const auto& of) { return left(of.second, now) >= whole.left; });
    if (allowances_.size() >= kMaxAllowances) allowances_.erase(allowances_.begin());
  }
  return allowances_.try_emplace(remote, whole).first->second;
}

}  // namespace farmesh::serve
