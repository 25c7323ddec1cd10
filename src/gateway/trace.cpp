#include "gateway/trace.hpp"

#include <algorithm>

#include "gateway/services.hpp"

namespace farmesh::gateway {
namespace {

constexpr std::size_t kTraceAt = 3, kTraceDigits = 32;
constexpr std::size_t kSpanAt = 36, kSpanDigits = 16;
constexpr std::size_t kFlagsAt = 53, kSize = 55;

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

bool is_sound(std::string_view text) {
  // A later version may have more behind another dash.
  if (text.size() < kSize || text.starts_with("ff")) return false;
  if (text.size() > kSize && (text.starts_with("00") || text[kSize] != '-')) return false;
  const std::string_view trace = text.substr(kTraceAt, kTraceDigits);
  const std::string_view span = text.substr(kSpanAt, kSpanDigits);
  return is_hex(text.substr(0, 2)) && text[2] == '-' && is_hex(trace) && !is_zero(trace) &&
         text[kSpanAt - 1] == '-' && is_hex(span) && !is_zero(span) && text[kFlagsAt - 1] == '-' &&
         is_hex(text.substr(kFlagsAt, 2));
}

}  // namespace

std::string continue_trace(std::optional<std::string_view> received) {
  const std::string span = draw_id(kSpanDigits / 2);
  if (!received || !is_sound(*received)) {
    return "00-" + draw_id(kTraceDigits / 2) + "-" + span + "-01";
  }
  return "00-" + std::string(trace_id(*received)) + "-" + span + "-" +
         std::string(received->substr(kFlagsAt, 2));
}

std::string_view trace_id(std::string_view traceparent) noexcept {
  return traceparent.size() < kSize ? std::string_view()
                                    : traceparent.substr(kTraceAt, kTraceDigits);
}

}  // namespace farmesh::gateway
