// Any bytes as a body of the registry's routes: refused, or within the ledger's bounds. The first
// byte picks the route.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "gateway/registry_codec.hpp"
#include "wire/messages.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: {
      const auto read = gateway::parse_registration(body);
      if (!read) {
        (void)gateway::platform_error(read.problem());
        break;
      }
      FARMESH_ASSERT(read->node.wallet.empty() == !read->wallet);
      if (read->node.model) {
        const ledger::ServedModel& model = *read->node.model;
        FARMESH_ASSERT(!model.layers.empty() && model.layers.end <= model.total_layers);
        FARMESH_ASSERT(model.total_layers <= wire::kMaxLayers);
      }
      break;
    }
    case 1: {
      const auto read = gateway::parse_heartbeat(body);
      FARMESH_ASSERT(!read || read->latency_ms.value_or(0) >= 0);
      break;
    }
    default: {
      const auto read = gateway::parse_older_heartbeat(body);
      FARMESH_ASSERT(!read || read->node_id.empty());
    }
  }
  return 0;
}
