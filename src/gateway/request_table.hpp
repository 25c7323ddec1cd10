// Requests by their id: those under way, and for an hour those that ended. The platform's have
// their client's request_id, OpenAI's the id of their answer.
//
// Takes the story of each request from its handler, gives it to whoever asks for the id later, and
// carries a cancel to it. With a board it knows those of other coordinators too; while that cannot
// be reached, its own. Thread-safe. Bounded: the oldest ended ones are forgotten first.
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
#include <utility>

#include "gateway/problem.hpp"
#include "gateway/request_board.hpp"
#include "gateway/request_record.hpp"

namespace farmesh::gateway {

class RequestTable {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::hours kKept{1};

  RequestTable() = default;
  explicit RequestTable(std::size_t max_records) : max_records_(max_records) {}
  explicit RequestTable(std::shared_ptr<RequestBoard> board) : board_(std::move(board)) {}

  /// Takes the id for a new request, or tells of the one that has it, here or elsewhere: a record
  /// that ended means that its answer may be given again. Fails with 409 when that one had another
  /// body or owner, or still runs, and with 503 when every record is of a request under way.
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
  /// False when no such request is active. One of another coordinator ends with its next share().
  bool cancel(const std::string& request_id);
  /// Tells the board of every request under way, and cancels those that were asked for there.
  /// Meant for each second.
  void share();

 private:
  struct Entry {
    RequestRecord record;
    std::function<void()> cancel;
    bool cancel_asked = false;
    Clock::time_point ended;
    std::uint64_t revision = 0;  // of the record
    std::uint64_t told = 0;      // to the board
  };
  void forget(Clock::time_point now);
  Checked<std::optional<RequestRecord>> open_here(const RequestRecord& record,
                                                  Clock::time_point now);
  std::optional<RequestRecord> find_here(const std::string& request_id) const;
  std::optional<RequestRecord> find_elsewhere(const std::string& request_id) const;
  void tell(const RequestRecord& record, std::uint64_t revision, bool first);
  bool cancel_here(const std::string& request_id);

  const std::size_t max_records_ = 4'096;
  const std::shared_ptr<RequestBoard> board_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace farmesh::gateway
