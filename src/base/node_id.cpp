#include "base/node_id.hpp"

#include <algorithm>
#include <span>

#include "base/digest.hpp"

namespace farmesh {
namespace {

constexpr std::size_t kFullDigits = 64;
constexpr std::size_t kShortDigits = 12;

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

}  // namespace

std::string to_string(const NodeId& id) { return to_hex(id); }

std::string short_name(const NodeId& id) { return to_hex(id).substr(0, kShortDigits); }

Result<NodeId> parse_node_id(std::string_view text) {
  NodeId id;
  if (from_hex(text, id)) {
    if (is_unknown(id)) return {Errc::address_invalid, "a node id of zeros only is nobody's"};
    return id;
  }
  const std::string shown(text.substr(0, 100));
  if (text.starts_with("Qm") || text.starts_with("12D3Koo") || text.starts_with("16Uiu2") ||
      text.starts_with("bafz")) {
    return {Errc::address_invalid,
            shown + " is a libp2p peer id; a FarMesh node id has 64 hexadecimal digits"};
  }
  if (!text.empty() && text.size() < kFullDigits && is_hex(text)) {
    return {Errc::address_invalid, shown + " is a node id cut short: all 64 digits are needed"};
  }
  return {Errc::address_invalid, shown + " is not a node id of 64 hexadecimal digits"};
}

}  // namespace farmesh
