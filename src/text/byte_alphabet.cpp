#include "text/byte_alphabet.hpp"

#include "text/utf8.hpp"

namespace farmesh::text {

std::string to_byte_alphabet(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (const char byte : text) append_utf8(out, kByteAlphabet[static_cast<std::uint8_t>(byte)]);
  return out;
}

}  // namespace farmesh::text
