// How often each of many may do a thing: so many times at once, then so many a second.
//
// Names are forgotten once their allowance is whole again; while there are too many that are not,
// nobody new may. Threading: one user.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <unordered_map>

#include "base/types.hpp"

namespace farmesh::net {

struct Rate {
  double burst = 1;
  double per_second = 1;
};

class RateBook {
 public:
  explicit RateBook(Rate rate, std::size_t max_names = 4'096)
      : rate_(rate), max_names_(max_names) {}

  /// Counts one more of `name`, if it may.
  bool take(const std::string& name, TimePoint now) {
    if (entries_.size() >= max_names_) forget_whole(now);
    if (entries_.size() >= max_names_ && !entries_.contains(name)) return false;
    Entry& entry = entries_.try_emplace(name, Entry{rate_.burst, now}).first->second;
    entry = {allowance(entry, now), now};
    if (entry.left < 1) return false;
    entry.left -= 1;
    return true;
  }

 private:
  struct Entry {
    double left;
    TimePoint at;
  };

  double allowance(const Entry& entry, TimePoint now) const {
    const double seconds = std::chrono::duration<double>(now - entry.at).count();
    return std::min(rate_.burst, entry.left + seconds * rate_.per_second);
  }

  void forget_whole(TimePoint now) {
    std::erase_if(entries_,
                  [&](const auto& one) { return allowance(one.second, now) >= rate_.burst; });
  }

  Rate rate_;
  std::size_t max_names_;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace farmesh::net
