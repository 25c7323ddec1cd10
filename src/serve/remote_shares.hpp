// How much of a peer one remote node may have, by its key: open sessions, promised cache, and an
// hour's tokens that nobody pays for.
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
  std::uint64_t unpaid_tokens = 1'000'000;  // computed for one remote in an hour; 0: any number
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

  /// Computes so many more tokens for `remote`, of prompts or output, without a grant. What was
  /// used comes back within an hour, little by little. Fails with quota.
  Result<void> spend(const NodeId& remote, std::uint64_t tokens, TimePoint now);

 private:
  struct Share {
    std::uint32_t sessions = 0;
    std::uint64_t tokens = 0;
  };
  struct Allowance {
    double left = 0;
    TimePoint at{};  // when so much was left
  };
  struct Held {
    NodeId remote{};
    std::uint32_t tokens = 0;
  };

  double left(const Allowance& allowance, TimePoint now) const noexcept;
  Allowance& allowance_of(const NodeId& remote, TimePoint now);

  ShareLimits limits_;
  std::map<NodeId, Share> shares_;  // of remotes with a session
  std::unordered_map<SessionId, Held, HashOfBytes> sessions_;
  std::map<NodeId, Allowance> allowances_;  // of remotes that used some of theirs
};

}  // namespace farmesh::serve
