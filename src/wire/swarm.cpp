#include "wire/swarm.hpp"

#include <algorithm>

#include "farmesh_generated.h"
#include "wire/messages.hpp"
#include "wire/tables.hpp"
#include "wire/text.hpp"

namespace farmesh::wire {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using Octets = flatbuffers::Vector<std::uint8_t>;

Offset<Octets> octets(FlatBufferBuilder& builder, const std::string& bytes) {
  if (bytes.empty()) return 0;
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

std::string text_of(const Octets* bytes) {
  return bytes == nullptr ? std::string() : std::string(bytes->begin(), bytes->end());
}

Error bad(const char* field) {
  return {Errc::bad_header, std::string("swarm: ") + field + " is out of bounds"};
}

}  // namespace

HeaderBytes encode(const Swarm& message) {
  FlatBufferBuilder builder;
  const auto mesh = builder.CreateString(message.mesh);
  const auto own = octets(builder, message.own);
  const fb::Bytes32 model = packed<fb::Bytes32>(message.model_hash.bytes);
  const fb::Bytes32 after = packed<fb::Bytes32>(message.after);
  const fb::Span layers(message.layers.begin, message.layers.end);
  return finished(builder, fb::CreateSwarm(builder, mesh, &model, &layers, &after, own));
}

HeaderBytes encode(const SwarmReply& message) {
  FlatBufferBuilder builder;
  std::vector<Offset<fb::SignedRecord>> records;
  records.reserve(message.records.size());
  for (const std::string& record : message.records) {
    records.push_back(fb::CreateSignedRecord(builder, octets(builder, record)));
  }
  const auto all = builder.CreateVector(records);
  return finished(builder, fb::CreateSwarmReply(builder, all, message.more));
}

template <>
Result<Swarm> decode<Swarm>(ByteView header) {
  const auto* table = verified<fb::Swarm>(header);
  if (table == nullptr) return {Errc::bad_header, "swarm: not a table of the schema"};
  Swarm message;
  if (table->mesh() != nullptr) message.mesh = table->mesh()->str();
  if (message.mesh.size() > kMaxTextField || !is_printable(message.mesh)) return bad("mesh");
  message.model_hash.bytes = unpacked(table->model_hash());
  message.after = unpacked(table->after());
  if (const fb::Span* layers = table->layers()) message.layers = {layers->begin(), layers->end()};
  if (message.layers.begin > message.layers.end || message.layers.end > kMaxLayers) {
    return bad("layers");
  }
  message.own = text_of(table->own());
  if (message.own.size() > kMaxSwarmRecordBytes) return bad("own");
  return message;
}

template <>
Result<SwarmReply> decode<SwarmReply>(ByteView header) {
  const auto* table = verified<fb::SwarmReply>(header);
  if (table == nullptr) return {Errc::bad_header, "swarm reply: not a table of the schema"};
  SwarmReply message;
  message.more = table->more();
  if (table->records() == nullptr) return message;
  if (table->records()->size() > kMaxSwarmRecords) return bad("records");
  for (const fb::SignedRecord* record : *table->records()) {
    message.records.push_back(text_of(record->bytes()));
    if (message.records.back().size() > kMaxSwarmRecordBytes) return bad("records");
  }
  return message;
}

}  // namespace farmesh::wire
