// When a batch should wait a moment for sessions that are about to be back.
//
// Sessions that decode come back for their next token as soon as the driver has sampled one. A
// batch begun just before that leaves them to a batch of their own, and the weights are read
// twice where once would do, for as long as both groups last. Merging the groups saves what a
// batch costs however few its rows, about the time of the shortest one. So the next batch waits
// for the sessions of the last one, if measurement says they will be back within half of that
// time, and no longer. In a chain, whose other stages keep sessions away for longer, nothing
// waits, and groups of sessions fill different stages.
//
// Passes of a head on the same compute thread keep no batch waiting that could have run: their
// time counts neither as time away nor as waiting.
//
// Threading: confined to its owner's thread.
#pragma once

#include <unordered_map>

#include "base/types.hpp"

namespace farmesh::serve {

class Pacing {
 public:
  /// A batch that took `computing` has ended; sent_off() names the sessions it served.
  void batch_ended(TimePoint now, Duration computing) {
    for (const auto& [session, leave] : away_) measure(leave, now);  // so long at least
    away_.clear();
    ended_ = now;
    // Forgets slowly: one short batch tells more than many long ones.
    shortest_ = shortest_ == Duration{} || computing < shortest_
                    ? computing
                    : shortest_ + (computing - shortest_) / 16;
  }
  /// A pass of the head has ended.
  void head_ended(TimePoint now, Duration computing) {
    ended_ = now;
    head_time_ += computing;
  }
  /// The session has its result and no further step here.
  void sent_off(const SessionId& session, TimePoint now) {
    away_.emplace(session, Leave{now, head_time_});
  }

  /// A step of the session has come.
  void came_back(const SessionId& session, TimePoint now) {
    const auto entry = away_.find(session);
    if (entry == away_.end()) return;
    measure(entry->second, now);
    away_.erase(entry);
  }
  void closed(const SessionId& session) { away_.erase(session); }

  /// The next batch should not begin before; in the past when there is nothing to wait for.
  TimePoint begin_at() const noexcept {
    const Duration patience = shortest_ / 2;
    return away_.empty() || usual_ > patience ? ended_ : ended_ + patience;
  }
  /// Of a batch of few rows.
  Duration shortest() const noexcept { return shortest_; }
  /// When the last pass did.
  TimePoint ended() const noexcept { return ended_; }

 private:
  struct Leave {
    TimePoint since;
    Duration head_time;  // of this worker at that time
  };

  void measure(const Leave& leave, TimePoint now) noexcept {
    const Duration time_away = now - leave.since - (head_time_ - leave.head_time);
    usual_ += (time_away - usual_) / 8;
  }

  std::unordered_map<SessionId, Leave, HashOfBytes> away_;
  Duration usual_{};      // time away, smoothed
  Duration shortest_{};   // batch of late
  Duration head_time_{};  // of all passes of the head
  TimePoint ended_{};     // the last pass
};

}  // namespace farmesh::serve
