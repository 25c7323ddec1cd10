// What several coordinators tell each other of their requests: each tells of its own, any
// of them may ask, and may ask for a cancel.
//
// Takes records from request_table.hpp, gives them to the tables of the others. One that has not
// been told of for a while was its coordinator's last: it counts as failed. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "gateway/request_record.hpp"

namespace farmesh::gateway {

class RequestBoard {
 public:
  static constexpr std::chrono::hours kKept{1};
  static constexpr std::chrono::seconds kSilence{30};  // of a request under way

  virtual ~RequestBoard() = default;

  /// Puts `record` where others find it, unless another stream has the request now, or a higher
  /// `revision` of this one was told. `first`: this stream takes the request over. Gives whether
  /// somebody wants it cancelled. Fails with ledger_unavailable.
  virtual Result<bool> tell(const RequestRecord& record, std::uint64_t revision, bool first) = 0;
  /// The same without news: it is still under way.
  virtual Result<bool> tell_alive(const std::string& request_id, std::uint64_t stream) = 0;
  /// As it was told last. Fails with ledger_unavailable, config_invalid (another version's).
  virtual Result<std::optional<RequestRecord>> find(const std::string& request_id) = 0;
  /// Whoever runs the request learns of it with what it tells next. False: nobody does.
  virtual Result<bool> ask_cancel(const std::string& request_id) = 0;
};

/// A record as bytes. decode_record fails with config_invalid: bytes of another version.
std::string encode_record(const RequestRecord& record);
Result<RequestRecord> decode_record(std::string_view bytes);

}  // namespace farmesh::gateway
