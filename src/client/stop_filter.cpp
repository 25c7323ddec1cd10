#include "client/stop_filter.hpp"

#include <algorithm>
#include <utility>

namespace farmesh::client {
namespace {

// Length of the longest end of `text` that is a proper beginning of `stop`.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

Result<void> StopFilter::check(const std::vector<std::string>& stops) {
  if (stops.size() > kMaxStops) {
    return {Errc::invalid_argument, "more than " + std::to_string(kMaxStops) + " stop strings"};
  }
  for (const std::string& stop : stops) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return {Errc::invalid_argument,
              "a stop string must have 1 to " + std::to_string(kMaxStopBytes) + " bytes"};
    }
  }
  return {};
}

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

StopFilter::Piece StopFilter::push(std::string_view text) {
  held_ += text;

  // The one that is complete first, so that where the text was cut into pieces changes nothing.
  std::size_t cut = std::string::npos;
  std::size_t complete = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > complete) continue;
    cut = at + stop.size() == complete ? std::min(cut, at) : at;
    complete = at + stop.size();
  }
  if (complete != std::string::npos) {
    held_.resize(cut);
    return {std::exchange(held_, {}), true};
  }

  std::size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, begun(held_, stop));
  Piece piece{held_.substr(0, held_.size() - keep), false};
  held_.erase(0, piece.text.size());
  return piece;
}

std::string StopFilter::flush() { return std::exchange(held_, {}); }

}  // namespace farmesh::client
