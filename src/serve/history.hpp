// The outputs a peer has sent on, so that the stage after it can be rebuilt when it is lost.
//
// Holds the very payloads that were sent, uncopied, within one budget for all sessions. When it
// is spent, the oldest session's oldest rows go first; such a session can then be rebuilt only
// from before this peer.
// Threading: confined to its owner's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/bytes.hpp"
#include "base/types.hpp"

namespace farmesh::serve {

class History {
 public:
  struct Range {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  struct Part {
    std::uint32_t position = 0;
    std::uint32_t count = 0;
    Payload rows;  // [count, hidden]

    std::uint32_t end() const noexcept { return position + count; }
  };

  explicit History(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  /// Rows of positions stored before are replaced; after a gap the session begins anew.
  void append(const SessionId& session, Part part);
  /// Forgets positions from `position` on.
  void truncate(const SessionId& session, std::uint32_t position);
  void forget(const SessionId& session);

  /// What is stored; empty for an unknown session.
  Range stored(const SessionId& session) const;
  /// The stored rows of [from, to), which must lie in stored(), as they were appended.
  std::vector<Part> parts(const SessionId& session, std::uint32_t from, std::uint32_t to) const;

  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct Stored {
    Part part;
    std::uint64_t charged = 0;  // for all the memory that the part keeps, also when cut short
  };
  struct Record {
    std::uint64_t age = 0;
    Range range;
    std::deque<Stored> parts;
  };

  void drop_front(Record& record);
  void drop_back(Record& record);
  void cut(Record& record, std::uint32_t position);

  std::uint64_t budget_bytes_;
  std::uint64_t bytes_ = 0;  // charged
  std::uint64_t next_age_ = 0;
  std::unordered_map<SessionId, Record, HashOfBytes> records_;
  std::map<std::uint64_t, Record*> by_age_;  // those that store something; the oldest first
};

}  // namespace farmesh::serve
