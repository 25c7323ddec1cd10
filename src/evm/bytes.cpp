#include "evm/bytes.hpp"

#include "base/digest.hpp"

namespace farmesh::evm {

std::string to_hex0x(BytesView bytes) { return "0x" + to_hex(bytes); }

Result<void> parse_hex0x_into(std::string_view text, std::span<std::uint8_t> out) {
  if (!text.starts_with("0x") || !from_hex(text.substr(2), out)) {
    return Error{Errc::evm_encoding_invalid,
                 "not 0x and " + std::to_string(2 * out.size()) + " hexadecimal digits"};
  }
  return {};
}

Result<Bytes> parse_hex0x(std::string_view text, std::size_t max_bytes) {
  if (text.size() > 2 && (text.size() - 2) / 2 > max_bytes) {
    return Error{Errc::evm_encoding_invalid,
                 "more than " + std::to_string(max_bytes) + " bytes of hexadecimal"};
  }
  Bytes bytes(text.size() > 2 ? (text.size() - 2) / 2 : 0);
  if (const Result<void> parsed = parse_hex0x_into(text, bytes); !parsed) return parsed.error();
  return bytes;
}

}  // namespace farmesh::evm
