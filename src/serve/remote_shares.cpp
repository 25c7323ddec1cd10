#include "serve/remote_shares.hpp"

#include <string>

namespace farmesh::serve {

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

}  // namespace farmesh::serve
