// The contract ABI: what calls carry, what they return, and what events hold.
//
// Types: uint8 to uint256, bool, address, bytes1 to bytes32, bytes, string, T[], T[n] and tuples
// "(T,…)". The decoder takes the canonical layout only (every tail in order, no gap, clean
// padding), which is what compilers emit: so it never reads a byte twice, and what it accepts
// encodes back to the same bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "evm/address.hpp"
#include "evm/bytes.hpp"
#include "evm/u256.hpp"

namespace farmesh::evm {

struct AbiType {
  enum class Kind : std::uint8_t {
    uint,
    boolean,
    address,
    fixed_bytes,
    bytes,
    string,
    array,
    tuple
  };

  Kind kind = Kind::uint;
  std::size_t size = 0;          // bits of uint, bytes of fixed_bytes, elements of T[n]; 0 in T[]
  std::vector<AbiType> members;  // the element type of an array, the types of a tuple

  /// "uint256", "(address,uint256)[]": canonical names only, nested at most kMaxAbiDepth deep.
  /// Fails with evm_encoding_invalid.
  static Result<AbiType> parse(std::string_view text);

  bool is_dynamic() const noexcept;
  friend bool operator==(const AbiType&, const AbiType&) = default;
};

inline constexpr int kMaxAbiDepth = 8;

/// A value of some AbiType: a number (also of bool: 0 or 1), an address, bytes (also fixed), text,
/// or members of an array or tuple.
struct AbiValue {
  using Members = std::vector<AbiValue>;

  AbiValue() = default;
  AbiValue(U256 value) : value(value) {}                                        // NOLINT: implicit
  AbiValue(std::uint64_t value) : value(U256(value)) {}                         // NOLINT: implicit
  AbiValue(Address value) : value(value) {}                                     // NOLINT: implicit
  AbiValue(Bytes value) : value(std::move(value)) {}                            // NOLINT: implicit
  AbiValue(const Bytes32& value) : value(Bytes(value.begin(), value.end())) {}  // NOLINT: implicit
  AbiValue(std::string value) : value(std::move(value)) {}                      // NOLINT: implicit
  AbiValue(Members value) : value(std::move(value)) {}                          // NOLINT: implicit

  std::variant<U256, Address, Bytes, std::string, Members> value;

  /// Of a value that decode_abi gave for such a type.
  const U256& number() const { return std::get<U256>(value); }
  const Address& address() const { return std::get<Address>(value); }
  const Bytes& bytes() const { return std::get<Bytes>(value); }
  const std::string& text() const { return std::get<std::string>(value); }
  const Members& members() const { return std::get<Members>(value); }
  Bytes32 word() const;  // of bytes32

  friend bool operator==(const AbiValue&, const AbiValue&) = default;
};

using Selector = std::array<std::uint8_t, 4>;

/// The first bytes of the hash of "transfer(address,uint256)", and the whole hash: an event's
/// first topic.
Selector selector(std::string_view signature);
Bytes32 event_topic(std::string_view signature);

/// `tuple` is a tuple type such as "(address,uint256)"; `values` are its members. Fails with
/// evm_encoding_invalid when a value does not fit its type.
Result<Bytes> encode_abi(const AbiType& tuple, const AbiValue::Members& values);
Result<AbiValue::Members> decode_abi(const AbiType& tuple, BytesView data);

/// The same with types as text, which must be right: "(address,uint256)".
Result<Bytes> encode_abi(std::string_view tuple, const AbiValue::Members& values);
Result<AbiValue::Members> decode_abi(std::string_view tuple, BytesView data);

/// A call's data: the selector of "transfer(address,uint256)" and its arguments.
Result<Bytes> encode_call(std::string_view signature, const AbiValue::Members& values);

}  // namespace farmesh::evm
