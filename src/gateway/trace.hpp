// W3C trace context (Trace Context, level 1): "00-TRACE-SPAN-FLAGS", in lower-case hexadecimal.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace farmesh::gateway {

/// What the work for a request carries on: the caller's trace with a span of our own, or where
/// `received` is absent or malformed a trace of our own.
std::string continue_trace(std::optional<std::string_view> received);

/// The 32 digits of the trace.
std::string_view trace_id(std::string_view traceparent) noexcept;

}  // namespace farmesh::gateway
