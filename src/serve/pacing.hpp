// When a batch should wait a moment for sessions that are about to be back.
//
// Sessions that decode come back for their next token as soon as the driver has sampled one. A
// batch begun just before that leaves them to a batch of their own, and the weights are read
// twice where once would do, for as long as both groups last. So the next batch waits for the
// sessions of the last one, if measurement says they will be back within an eighth of its time,
// and no longer than that. In a chain, whose other stages keep sessions away for longer, nothing
// waits, and groups of sessions fill different stages.
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
    for (const auto& [session, since] : away_) measure(now - since);  // so long at least
    away_.clear();
    ended_ = now;
    patience_ = computing / 8;
  }
  /// The session has its result and no further step here.
  void sent_off(const SessionId& session, TimePoint now) { away_.emplace(session, now); }

  /// A step of the session has come.
  void came_back(const SessionId& session, TimePoint now) {
    const auto entry = away_.find(session);
    if (entry == away_.end()) return;
    measure(now - entry->second);
    away_.erase(entry);
  }
  void closed(const SessionId& session) { away_.erase(session); }

  /// The next batch should not begin before; in the past when there is nothing to wait for.
  TimePoint begin_at() const noexcept {
    return away_.empty() || usual_ > patience_ ? ended_ : ended_ + patience_;
  }

 private:
  void measure(Duration time_away) noexcept { usual_ += (time_away - usual_) / 8; }

  std::unordered_map<SessionId, TimePoint, HashOfBytes> away_;
  Duration usual_{};     // time away, smoothed
  Duration patience_{};  // an eighth of the last batch
  TimePoint ended_{};
};

}  // namespace farmesh::serve
