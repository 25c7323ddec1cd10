// When a batch of sessions that decode begins, so that they fill the stages of their chains.
//
// The sessions of one batch go on to the next stage together, as a group. With fewer groups under
// way than the chain has room for, stages stand idle; with more, they queue at every stage, and
// weights are read more often than need be, for as long as the groups last. A driver measures how
// many groups fill its chain (driver/ring_pace.hpp) and says so in every step (Step::groups). The
// stage where rounds begin lets no more groups be under way than that: what comes meanwhile joins
// the next one. A later stage waits, a moment only, until a group has come whole.
//
// Every session counts by its own driver's word: a silly number spoils no more than its own share.
// Both kinds of waiting end, and who waited in vain waits less.
//
// Threading: confined to its owner's thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "base/types.hpp"

namespace farmesh::serve {

class Pipeline {
 public:
  explicit Pipeline(bool rounds_begin_here) : rounds_begin_here_(rounds_begin_here) {}

  /// A step of one row has come. `groups` is as wire::Step has it; `batch_rows` of the batch that
  /// the row was in at the stage before.
  void came(const SessionId& session, std::uint32_t groups, std::uint32_t batch_rows,
            TimePoint now) {
    if (!rounds_begin_here_) {
      group_rows_ = std::max(group_rows_, batch_rows);
      return;
    }
    const auto [entry, is_new] = decoding_.try_emplace(session, Decoding{now, groups, 0});
    if (is_new) return;
    const Duration round = now - entry->second.came;
    // Whoever paused, between two turns of a chat, tells little of rounds.
    round_ = round_ == Duration{} ? round : round_ + (std::min(round, 4 * round_) - round_) / 8;
    entry->second = {now, groups, 0};
  }
  void closed(const SessionId& session) { decoding_.erase(session); }

  /// What the stage knows when it could begin a batch.
  struct Now {
    TimePoint time;
    std::uint32_t waiting = 0;  // steps of one row
    TimePoint since;            // the first of them came
    TimePoint free;             // since when no pass runs
    Duration pass{};            // of a batch of few rows
  };
  struct Plan {
    TimePoint begin{};                // not before
    std::uint32_t rows = UINT32_MAX;  // at most, of steps of one row
  };
  Plan plan(const Now& now) { return rounds_begin_here_ ? first_plan(now) : later_plan(now); }

  /// A batch has begun as plan() had it, with one row of each of these sessions.
  void begun(std::span<const SessionId> sessions) {
    patience_ = waits_ ? 0 : std::min(kMostPatience, patience_ + kRepaid);
    if (group_rows_ > 1) whole_ = waits_ ? whole_ / 2 : std::min(kMostWhole, whole_ * 2 + kLeast);
    waits_ = false;
    group_rows_ = 0;
    for (const SessionId& session : sessions) {
      const auto entry = decoding_.find(session);
      if (entry == decoding_.end() || entry->second.groups == 0) continue;
      entry->second.under_way = 1.0 / entry->second.groups / static_cast<double>(sessions.size());
    }
  }

 private:
  // In passes. A group may come a pass after the gap that waiting for it made a round before; and
  // waiting in vain may take no more of the time than is repaid.
  static constexpr double kMostPatience = 3;
  static constexpr double kLeastPatience = 1;
  static constexpr double kRepaid = 0.05;
  static constexpr double kMostWhole = 1.0 / 16;
  static constexpr double kLeast = 1e-4;

  struct Decoding {
    TimePoint came;            // its last step
    std::uint32_t groups = 0;  // that fill its chain
    double under_way = 0;      // its part of what fills it; 0: it is here
  };

  static Duration passes(double count, Duration pass) {
    return std::chrono::duration_cast<Duration>(pass * count);
  }

  Plan first_plan(const Now& now) {
    waits_ = false;
    if (round_ > Duration{}) {  // more than two rounds late: it pauses, or has gone
      std::erase_if(decoding_,
                    [&](const auto& entry) { return now.time - entry.second.came > 3 * round_; });
    }
    double share = 0;  // rows of a group, were all alike
    double under_way = 0;
    for (const auto& [session, known] : decoding_) {
      if (known.groups == 0) return {};
      share += 1.0 / known.groups;
      under_way += known.under_way;
    }
    Plan plan;
    // A row more than its share does no harm to a group; one that is left behind makes another.
    if (now.waiting > share + std::max(1.0, share / 8)) {
      plan.rows = std::max(1u, static_cast<std::uint32_t>(std::ceil(share - kLeast)));
    }
    const double group = share / static_cast<double>(std::max<std::size_t>(1, decoding_.size()));
    // Whoever of a group is late keeps the next one waiting only if they are many.
    waits_ = under_way + 0.75 * group > 1 + kLeast && patience_ >= kLeastPatience;
    if (waits_) plan.begin = std::max(now.since, now.free) + passes(patience_, now.pass);
    return plan;
  }

  Plan later_plan(const Now& now) {
    waits_ = now.waiting < group_rows_;
    return {waits_ ? now.since + passes(whole_, now.pass) : TimePoint{}};
  }

  const bool rounds_begin_here_;
  std::unordered_map<SessionId, Decoding, HashOfBytes> decoding_;
  Duration round_{};                 // from a step of a session to its next, smoothed
  std::uint32_t group_rows_ = 0;     // of the largest group that has come in part
  double patience_ = kMostPatience;  // with groups under way
  double whole_ = kMostWhole;        // with what a group lacks
  bool waits_ = false;               // as last planned
};

}  // namespace farmesh::serve
