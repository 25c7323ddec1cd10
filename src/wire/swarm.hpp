// The headers of `swarm`: who do you know that serves these layers?
//
// Records travel as the bytes that their nodes signed; discovery/ reads them. encode() and
// decode() behave as those of messages.hpp. Safe from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "base/node_id.hpp"
#include "base/types.hpp"
#include "wire/frame.hpp"

namespace farmesh::wire {

inline constexpr std::size_t kMaxSwarmRecords = 128;   // in one answer
inline constexpr std::size_t kMaxSwarmBytes = 48'000;  // of their records together
inline constexpr std::size_t kMaxSwarmRecordBytes = 2'048;

struct Swarm {
  std::string mesh;
  ModelHash model_hash;  // all zero: every model
  Span layers;           // empty: any
  NodeId after{};        // only nodes with greater ids: continues an answer that had more
  std::string own;       // the asker's own record; empty: it serves nothing
};

struct SwarmReply {
  std::vector<std::string> records;  // by node id, the answering node's own first
  bool more = false;                 // ask again after the greatest id of `records`
};

HeaderBytes encode(const Swarm& message);
HeaderBytes encode(const SwarmReply& message);

template <class Message>
Result<Message> decode(ByteView header);

template <>
Result<Swarm> decode<Swarm>(ByteView header);
template <>
Result<SwarmReply> decode<SwarmReply>(ByteView header);

}  // namespace farmesh::wire
