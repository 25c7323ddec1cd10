// Stop strings on the text as it streams: nothing of a stop string is ever let through.
//
// Takes text from the detokenizer, gives the reader what can no longer be part of a stop string.
// One owner; not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

namespace farmesh::client {

inline constexpr std::size_t kMaxStops = 16;
inline constexpr std::size_t kMaxStopBytes = 256;

class StopFilter {
 public:
  /// Fails with invalid_argument for an empty stop, one too long, or too many.
  static Result<void> check(const std::vector<std::string>& stops);

  explicit StopFilter(std::vector<std::string> stops);

  struct Piece {
    std::string text;      // safe to show
    bool stopped = false;  // a stop string followed `text`; it and what follows are dropped
  };
  Piece push(std::string_view text);

  /// The end came without a stop string: what was held back.
  std::string flush();

 private:
  std::vector<std::string> stops_;
  std::string held_;  // the longest end of the text so far that begins some stop string
};

}  // namespace farmesh::client
