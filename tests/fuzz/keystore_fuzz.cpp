// Any text as a keystore: it is refused, or opens. Costly parameters would be computed here, were
// they not refused; cheap ones are, so only those that take long show as slow inputs.
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "evm/keystore.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<evm::PrivateKey> key = evm::open_keystore(text, "password");
  if (!key) {
    FARMESH_ASSERT(key.error().code == Errc::keystore_invalid ||
                   key.error().code == Errc::password_wrong);
  }
  return 0;
}
