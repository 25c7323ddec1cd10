// What a node says of itself, signed: who it is, where, which layers of which model, until when.
//
// Takes bytes from strangers (the DHT, the `swarm` verb), gives records that their node signed
// and that can be true, or the reason why not. A record travels as it was signed; the wallet
// statement goes beside the signed part, which holds its hash, so that a record also fits into a
// DHT item, without the statement.
//
//   body bytes u16 | body | signature 64 | statement bytes u16 | statement      little-endian
//
// Pure functions and values, safe from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "identity/node_key.hpp"

namespace farmesh::discovery {

inline constexpr std::size_t kMaxBodyBytes = 920;
inline constexpr std::size_t kMaxStatementBytes = 1'024;
inline constexpr std::size_t kMaxRecordBytes = 2 + kMaxBodyBytes + 64 + 2 + kMaxStatementBytes;
inline constexpr std::size_t kMaxAddresses = 4;
inline constexpr std::size_t kMaxAddressBytes = 160;
inline constexpr std::size_t kMaxNameBytes = 128;  // of mesh, model, place and the like
inline constexpr std::int64_t kClockToleranceMs = 60'000;
inline constexpr std::int64_t kMaxLifetimeMs = 3'600'000;
inline constexpr std::string_view kDefaultMesh = "far-mesh";

struct NodeRecord {
  identity::PublicKey key{};
  NodeId id{};                     // the hash of `key`; does not travel
  std::int64_t sequence = 0;       // grows with each record of the key
  std::int64_t not_before_ms = 0;  // Unix time by the node's own clock, when it signed
  std::int64_t expires_ms = 0;
  bool leaving = false;  // a tombstone: the node serves no more

  std::string mesh{kDefaultMesh};
  std::vector<std::string> addresses;  // where it may be dialled, best first
  std::string relay;                   // dialled through this node; empty: directly
  bool relays = false;                 // others may be dialled through it
  std::string software;
  std::string place;  // such as "eu-west"

  std::string model_id;  // for display
  ModelHash model_hash;  // all zero: it serves no model
  std::string numerics_class;
  std::uint32_t num_layers = 0;  // of the whole model
  Span span;                     // that it serves
  bool head = false;

  // As measured by the node itself: claims, until somebody else has measured.
  std::uint32_t layer_us = 0;        // one row through one layer; 0: not measured
  std::uint32_t bandwidth_kbps = 0;  // 0: not measured
  std::uint32_t queued_rows = 0;
  std::uint32_t free_tokens = 0;  // of KV cache
  std::uint32_t sessions = 0;

  std::vector<std::uint8_t> wallet_statement;  // opaque here; empty where it did not travel
};

/// Where to dial the node of a record, and no other: "HOST:PORT/p2p/ID", or through its relay.
/// Empty if nowhere.
std::string dial_address(const NodeRecord& record);

/// Whether `record` says that its node is reached at `address`, in whatever form, or through the
/// relay that `address` leads through. False where that names another node.
bool tells_of(const NodeRecord& record, const std::string& address);

/// A record and the bytes that its node signed.
struct SignedRecord {
  NodeRecord record;
  std::string bytes;  // whole, with the wallet statement if there is one

  /// Those that fit into a DHT item: without the statement.
  std::string item() const;
};

/// Signs what `record` says; its key and id become those of `key`. Fails with invalid_argument
/// when it would not be believed: a name or the whole too long, no address and not leaving.
Result<SignedRecord> sign_record(NodeRecord record, const identity::NodeKey& key);

/// Why a record is not believed. The numbers index RecordFaults.
enum class RecordFault : std::uint8_t {
  oversized = 0,
  malformed = 1,      // no record at all, or text and addresses that cannot be
  bad_signature = 2,  // not by the key it names, or its wallet statement is another
  foreign_id = 3,     // of another node than the one that was asked for
  foreign_mesh = 4,
  absurd_span = 5,  // empty or outside its model, or another shape than the model has
  clock_off = 6,    // signed in the future, or for longer than any record lives
  expired = 7,
};
inline constexpr std::size_t kRecordFaults = 8;
using RecordFaults = std::array<std::uint64_t, kRecordFaults>;
std::string_view name(RecordFault fault) noexcept;

/// What a record is held against.
struct RecordExpectation {
  std::string mesh{kDefaultMesh};
  std::int64_t now_ms = 0;       // Unix time
  std::optional<NodeId> id;      // whose it must be
  ModelHash model_hash;          // where its model is this one …
  std::uint32_t num_layers = 0;  // … this is its number of layers; 0: not known
};

std::variant<SignedRecord, RecordFault> check_record(std::string_view bytes,
                                                     const RecordExpectation& expected);

}  // namespace farmesh::discovery
