// The platform's requests by their request_id: those under way, and for an hour those that ended.
//
// Takes the story of each request from its handler, gives it to whoever asks for the id later, and
// carries a cancel to it. Thread-safe. Bounded: the oldest ended ones are forgotten first.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/platform_codec.hpp"
#include "gateway/problem.hpp"

namespace farmesh::gateway {

enum class RequestStatus { active, completed, failed, cancelled };
std::string_view name(RequestStatus status) noexcept;

struct RequestRecord {
  PlatformAnswer answer;  // so far, while it is active
  RequestStatus status = RequestStatus::active;
  std::optional<Problem> problem;
  std::string owner;  // account id; empty: anybody without a key
  std::string body_digest;
  std::uint64_t stream = 0;  // which of the streams that answered this id
};

class RequestTable {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::hours kKept{1};

  RequestTable() = default;
  explicit RequestTable(std::size_t max_records) : max_records_(max_records) {}

  /// Takes the id for a new request, or tells of the one that has it: a record that ended means
  /// that its answer may be given again. Fails with 409 when that one had another body or owner, or
  /// still runs, and with 503 when every record is of a request under way.
  Checked<std::optional<RequestRecord>> open(const RequestRecord& record,
                                             Clock::time_point now = Clock::now());
  /// Takes the id for a stream that goes on with an earlier one, which is cancelled.
  void take_over(const RequestRecord& record);
  /// The calls below count only of the stream that has the id.
  /// `cancel`: called without any lock, from any thread, while the request is active; at once when
  /// cancel() came before.
  void set_cancel(const RequestRecord& record, std::function<void()> cancel);
  void add_text(const RequestRecord& record, std::string_view text);
  /// Keeps `record` as the request's last word.
  void close(RequestRecord record, Clock::time_point now = Clock::now());

  std::optional<RequestRecord> find(const std::string& request_id) const;
  /// False when no such request is active.
  bool cancel(const std::string& request_id);

 private:
  struct Entry {
    RequestRecord record;
    std::function<void()> cancel;
    bool cancel_asked = false;
    Clock::time_point ended;
  };
  void forget(Clock::time_point now);

  const std::size_t max_records_ = 4'096;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace farmesh::gateway
