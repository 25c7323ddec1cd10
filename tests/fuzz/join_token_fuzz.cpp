// Any bytes as a join token's text, and as the pass that a stranger shows in hello. What is
// accepted as a token must come back the same; no stranger's bytes may let anybody in.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "identity/join_token.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::identity;

constexpr std::chrono::sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

const Membership& member() {
  static const Membership one = [] {
    const std::array<std::uint8_t, 32> seed{1};
    const NodeKey mesh = NodeKey::from_seed(seed);
    return Membership(*JoinToken::make(mesh, "fuzzed", kNow + std::chrono::hours(1)), mesh.id());
  }();
  return one;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<JoinToken> token = JoinToken::parse(text);
  if (token) {
    const Result<JoinToken> again = JoinToken::parse(token->to_text());
    FARMESH_ASSERT(again && again->to_text() == token->to_text());
  } else {
    FARMESH_ASSERT(token.error().code == Errc::config_invalid);
  }
  const Result<void> admitted = member().admit({data, size}, NodeId{1}, kNow);
  FARMESH_ASSERT(!admitted && admitted.error().code == Errc::join_refused);
  return 0;
}
