// The records that a node holds: newest sequence wins, nothing outlives its expiry, never more
// than a stated number.
//
// Takes bytes from strangers with the present time, gives views of who can be used and pages of
// what may be passed on. Waits for nothing and reads no clock.
// Threading: none of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/record.hpp"

namespace farmesh::discovery {

using RecordPtr = std::shared_ptr<const SignedRecord>;

struct RecordTableOptions {
  std::string mesh{kDefaultMesh};
  ModelHash model_hash;          // of the one model that is used; all zero: any
  std::uint32_t num_layers = 0;  // of that model; 0: not known
  std::size_t max_records = 8'192;
};

struct RecordCounts {
  std::uint64_t taken = 0;  // new, or newer than what was held
  std::uint64_t known = 0;  // not newer
  std::uint64_t full = 0;   // no room
  RecordFaults dropped{};   // by fault
};

class RecordTable {
 public:
  enum class Outcome { taken, known, dropped };

  explicit RecordTable(RecordTableOptions options) : options_(std::move(options)) {}

  /// `must_be`: whose record was asked for, if one's in particular.
  Outcome take(std::string_view bytes, std::int64_t now_ms, TimePoint now,
               const NodeId* must_be = nullptr);
  /// What fails outside, such as the signature of a DHT item.
  void count(RecordFault fault) noexcept { ++counts_.dropped[static_cast<std::size_t>(fault)]; }

  /// Forgets what has expired. True when somebody who could be used is gone.
  bool expire(std::int64_t now_ms, TimePoint now);
  /// The node does not answer at `address`: it is not used, nor passed on, until a record says that
  /// it signed later than this, or that it is elsewhere. True when it was usable, and there by its
  /// record.
  bool hide(const NodeId& id, const std::string& address, std::int64_t now_ms);
  bool is_usable(const NodeId& id) const;

  /// Records of living nodes that serve something of the model, by node id.
  std::vector<RecordPtr> usable() const;
  /// The record held, be it usable or not; null if none.
  RecordPtr find(const NodeId& id) const;
  /// Ids of records that expire before `when_ms` and are worth to be renewed, soonest first.
  std::vector<NodeId> ending(std::int64_t when_ms, std::size_t max) const;

  struct Query {
    ModelHash model_hash;  // all zero: every model
    Span layers;           // empty: any
    NodeId after{};        // only ids greater than this
  };
  struct Page {
    std::vector<RecordPtr> records;  // by node id
    bool more = false;
  };
  /// At most `max_records` of together `max_bytes`. Tombstones too: they must travel as well.
  Page page(const Query& query, std::size_t max_records, std::size_t max_bytes) const;

  std::size_t size() const noexcept { return entries_.size(); }
  const RecordCounts& counts() const noexcept { return counts_; }

 private:
  struct Entry {
    RecordPtr signed_record;
    TimePoint until{};                // by our clock: a fast clock elsewhere buys no longer life
    std::int64_t hidden_before = -1;  // records signed up to here are not believed to be alive …
    std::string hidden_at;            // … at this address
    bool usable() const noexcept {
      const NodeRecord& record = signed_record->record;
      return !record.leaving && record.not_before_ms > hidden_before;
    }
  };

  RecordTableOptions options_;
  std::map<NodeId, Entry> entries_;
  RecordCounts counts_;
};

}  // namespace farmesh::discovery
