// Any text as a list of bootstrap addresses: what is read can be read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "discovery/bootstrap_address.hpp"

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto addresses = discovery::parse_bootstrap(text);
  if (!addresses) {
    FARMESH_ASSERT(addresses.error().code == Errc::address_invalid);
    return 0;
  }
  FARMESH_ASSERT(addresses->size() <= discovery::kMaxBootstrapAddresses);
  for (const auto& address : *addresses) {
    FARMESH_ASSERT(discovery::parse_bootstrap(address.dht).has_value());
    FARMESH_ASSERT(discovery::parse_bootstrap(address.peer).has_value());
  }
  return 0;
}
