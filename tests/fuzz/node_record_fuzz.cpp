// Any bytes as a node's record: nothing but what its key has signed is believed, and what is
// believed can be signed and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "discovery/record.hpp"

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh::discovery;
  static const auto key = farmesh::identity::NodeKey::generate();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  RecordExpectation expected;
  expected.now_ms = 1'795'000'000'000;
  const auto checked = check_record(bytes, expected);
  if (const auto* good = std::get_if<SignedRecord>(&checked)) {
    const auto again = sign_record(good->record, key);
    FARMESH_ASSERT(again.has_value());
    FARMESH_ASSERT(std::holds_alternative<SignedRecord>(check_record(again->bytes, expected)));
    FARMESH_ASSERT(good->item().size() <= good->bytes.size());
  } else {
    FARMESH_ASSERT(name(std::get<RecordFault>(checked)) != "?");
  }
  return 0;
}
