#include "ledger/checks.hpp"

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "wire/text.hpp"

namespace farmesh::ledger {
namespace {

Error refused(std::string_view field, std::string_view why) {
  return {Errc::invalid_argument, std::string(field) + " " + std::string(why)};
}

}  // namespace

Result<void> check_text(std::string_view text, std::size_t max_bytes, std::string_view field,
                        bool may_be_empty) {
  if (text.empty() && !may_be_empty) return refused(field, "is empty");
  if (text.size() > max_bytes) return refused(field, "is too long");
  if (!wire::is_printable(text)) return refused(field, "is not printable UTF-8");
  return {};
}

Result<void> check_prose(std::string_view text, std::size_t max_bytes, std::string_view field) {
  if (text.size() > max_bytes) return refused(field, "is too long");
  while (!text.empty()) {
    const std::string_view run = text.substr(0, text.find_first_of("\n\r\t"));
    if (!wire::is_printable(run)) return refused(field, "is not printable UTF-8");
    text.remove_prefix(run.size() == text.size() ? run.size() : run.size() + 1);
  }
  return {};
}

std::string new_uuid() {
  std::array<std::uint8_t, 16> bytes;
  random_bytes(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);  // version 4
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);  // variant of RFC 4122
  return uuid_text(bytes);
}

bool is_uuid(std::string_view text) noexcept {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  if (text.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (kShape[i] == 'x' ? !digit : text[i] != '-') return false;
  }
  return true;
}

std::array<std::uint8_t, 16> uuid_bytes(std::string_view text) {
  FARMESH_ASSERT(is_uuid(text));
  std::string digits;
  for (const char c : text) {
    if (c != '-') digits += c;
  }
  std::array<std::uint8_t, 16> bytes{};
  FARMESH_ASSERT(from_hex(digits, bytes));
  return bytes;
}

std::string uuid_text(const std::array<std::uint8_t, 16>& bytes) {
  std::string text = to_hex(bytes);
  for (const std::size_t at : {8u, 13u, 18u, 23u}) text.insert(at, 1, '-');
  return text;
}

}  // namespace farmesh::ledger
