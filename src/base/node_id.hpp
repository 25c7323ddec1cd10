// The name of a node in the mesh, and its two forms as text.
//
// A node id is the SHA-256 of the node's Ed25519 public key: uniformly distributed, so ids may be
// compared, ordered and hashed as they are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh {

using NodeId = std::array<std::uint8_t, 32>;  // all zero: unknown

/// 64 lower-case hexadecimal digits: the form that addresses, records and files carry.
std::string to_string(const NodeId& id);

/// The first 12 of those digits: what people are shown. Never to be compared or looked up by.
std::string short_name(const NodeId& id);

/// Reads the full form. Fails with address_invalid, which says what is wrong: the ids of libp2p
/// ("Qm…", "12D3Koo…") and short names are told apart from other text.
Result<NodeId> parse_node_id(std::string_view text);

constexpr bool is_unknown(const NodeId& id) noexcept { return id == NodeId{}; }

}  // namespace farmesh
