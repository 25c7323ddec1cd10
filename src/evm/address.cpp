#include "evm/address.hpp"

#include "base/digest.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {

std::string to_lower_case(const Address& address) { return "0x" + to_hex(address.bytes); }

std::string to_string(const Address& address) {
  std::string text = to_lower_case(address);
  const std::string digits = to_hex(keccak256(std::string_view(text).substr(2)));
  for (std::size_t i = 2; i < text.size(); ++i) {
    if (text[i] >= 'a' && digits[i - 2] >= '8') text[i] = static_cast<char>(text[i] - 'a' + 'A');
  }
  return text;
}

Result<Address> parse_address(std::string_view text) {
  Address address;
  if (!text.starts_with("0x") || !from_hex(text.substr(2), address.bytes)) {
    return Error{Errc::wallet_invalid, "an address is 0x and 40 hexadecimal digits"};
  }
  if (text != to_lower_case(address) && text != to_string(address)) {
    return Error{Errc::wallet_invalid, "the address's checksum is wrong: is a letter mistyped?"};
  }
  return address;
}

}  // namespace farmesh::evm
