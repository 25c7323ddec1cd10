// A request as others may ask for it, while it runs and for an hour after.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/ledger.hpp>

#include "gateway/platform_codec.hpp"
#include "gateway/problem.hpp"

namespace farmesh::gateway {

enum class RequestStatus { active, completed, failed, cancelled };
std::string_view name(RequestStatus status) noexcept;
RequestStatus status_of(SessionStatus status) noexcept;
SessionStatus status_of(RequestStatus status) noexcept;

struct RequestRecord {
  PlatformAnswer answer;  // so far, while it is active
  RequestStatus status = RequestStatus::active;
  std::optional<Problem> problem;
  std::string owner;  // account id; empty: anybody without a key
  std::string body_digest;
  std::uint64_t stream = 0;  // which of the streams that answered this id
};

}  // namespace farmesh::gateway
