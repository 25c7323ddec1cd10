// How much of a peer one remote node may hold: open sessions and promised cache, by its key.
//
// Threading: the network thread.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"

namespace farmesh::serve {

struct ShareLimits {
  std::uint32_t sessions = 128;  // of one remote
  std::uint64_t tokens = 0;      // of cache promised to one remote; 0: as much as there is
};

class RemoteShares {
 public:
  explicit RemoteShares(const ShareLimits& limits) : limits_(limits) {}

  /// Whether `remote` may open `session`, or open it again, with a promise of `tokens`. Fails
  /// with quota.
  Result<void> allow(const SessionId& session, const NodeId& remote, std::uint32_t tokens) const;

  /// It has: counted until release(). Another remote's claim on the session ends.
  void hold(const SessionId& session, const NodeId& remote, std::uint32_t tokens);
  void release(const SessionId& session);

 private:
  struct Share {
    std::uint32_t sessions = 0;
    std::uint64_t tokens = 0;
  };
  struct Held {
    NodeId remote{};
    std::uint32_t tokens = 0;
  };

  ShareLimits limits_;
  std::map<NodeId, Share> shares_;  // of remotes with a session
  std::unordered_map<SessionId, Held, HashOfBytes> sessions_;
};

}  // namespace farmesh::serve
