// Any bytes as a body of a login, of a new key or of a reservation: refused, or within its bounds.
// The first byte picks the route.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "gateway/account_codec.hpp"
#include "gateway/platform_codec.hpp"
#include "gateway/reservation_codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 >= 2) {
    const bool with_signature = data[0] % 4 == 2;
    const auto terms = gateway::parse_reservation(body, with_signature);
    if (!terms) {
      (void)gateway::platform_error(terms.problem());
      return 0;
    }
    FARMESH_ASSERT(!terms->request_id.empty() && terms->request_id.size() <= 255);
    FARMESH_ASSERT(terms->amount > Far() && terms->deadline > 0);
    FARMESH_ASSERT(terms->signature.empty() != with_signature && terms->signature.size() <= 1'024);
    return 0;
  }
  if (data[0] % 2 == 0) {
    const auto login = gateway::parse_login(body);
    if (!login) {
      (void)gateway::platform_error(login.problem());
      return 0;
    }
    FARMESH_ASSERT(!login->wallet.empty() && login->wallet.size() <= 64);
    FARMESH_ASSERT(login->signature.size() <= 2'050 && login->message.size() <= 1'024);
    return 0;
  }
  const auto key = gateway::parse_key(body);
  if (!key) {
    (void)gateway::platform_error(key.problem());
    return 0;
  }
  FARMESH_ASSERT(key->account.size() <= 42 && key->name.size() <= 128 && key->tier.size() <= 32);
  return 0;
}
