// RLP, the serialisation of transactions: byte strings and lists of such.
//
// The decoder takes the one canonical form of each item only, so that what it accepts encodes
// back to the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "evm/bytes.hpp"
#include "evm/u256.hpp"

namespace farmesh::evm {

/// Appends items one after another; a list is written by a writer of its own.
class RlpWriter {
 public:
  RlpWriter& bytes(BytesView value);
  RlpWriter& number(const U256& value);  // without leading zeros
  RlpWriter& list(const RlpWriter& items);

  const Bytes& items() const noexcept { return out_; }
  /// The items as one list.
  Bytes as_list() const;

 private:
  Bytes out_;
};

struct RlpItem {
  bool is_list = false;
  BytesView bytes;             // of a byte string, inside the decoded input
  std::vector<RlpItem> items;  // of a list

  /// A byte string of at most 32 bytes without leading zero. Fails with evm_encoding_invalid.
  Result<U256> number() const;
};

inline constexpr int kMaxRlpDepth = 16;
inline constexpr std::size_t kMaxRlpItems = 65'536;

/// One item that fills `input`, which must outlive the result. Fails with evm_encoding_invalid.
Result<RlpItem> decode_rlp(BytesView input);

/// The inverse of decode_rlp.
Bytes encode_rlp(const RlpItem& item);

}  // namespace farmesh::evm
