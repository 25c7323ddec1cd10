// How many groups of sessions keep the stages of this session's chain full.
//
// The trip of one token round the ring, less the time it queued, is what the stages and links
// need; divided by the pass of the slowest stage it is the number of batches that fit into the
// ring at once. serve/pipeline.hpp forms them.
//
// Threading: confined to its owner's thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::driver {

class RingPace {
 public:
  /// One token went round in `trip`; `times` are what the stages told, and are not trusted.
  void measured(Duration trip, const std::vector<wire::HopTime>& times) {
    double queued = 0;
    double slowest = 0;
    for (const wire::HopTime& time : times) {
      queued += time.queue_us;
      slowest = std::max(slowest, double(time.compute_us));
    }
    const double all = std::chrono::duration<double, std::micro>(trip).count();
    smooth(trip_us_, std::max(all - queued, slowest));
    smooth(slowest_us_, slowest);
    ++samples_;
  }

  /// 0 until enough was measured.
  std::uint32_t groups() const noexcept {
    if (samples_ < kEnough || slowest_us_ < 1) return 0;
    return static_cast<std::uint32_t>(
        std::clamp(std::round(trip_us_ / slowest_us_), 1.0, double(wire::kMaxGroups)));
  }

 private:
  static constexpr std::uint32_t kEnough = 4;

  static void smooth(double& mean, double sample) {
    mean += mean == 0 ? sample : (sample - mean) / 8;
  }

  double trip_us_ = 0;  // without queueing
  double slowest_us_ = 0;
  std::uint32_t samples_ = 0;
};

}  // namespace farmesh::driver
