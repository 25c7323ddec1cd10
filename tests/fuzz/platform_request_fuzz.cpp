// Any bytes as a body of the platform's generate calls: refused, or within its bounds.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "gateway/platform_codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request = gateway::parse_platform_request(body);
  if (!request) {
    (void)gateway::platform_error(request.problem(), "r");
    return 0;
  }
  FARMESH_ASSERT(request->request_id.size() <= gateway::kMaxRequestIdBytes);
  FARMESH_ASSERT(request->max_tokens > 0);
  FARMESH_ASSERT(request->user_wallet.empty() || request->user_wallet.size() == 42);
  return 0;
}
