// Rows of hidden values as they travel: in the residual's dtype as they are, or in int8 blocks.
//
// A row in blocks is cut into runs of 32 values, the last perhaps shorter. Each is a scale, bf16,
// little-endian, and then a signed byte a value: value = byte x scale. Sender and receiver share
// no state, and each byte is checked on its own: a scale is at most kMaxScale and not negative, a
// byte is not -128, so that no value can become infinite.
// Rounding is the same on every machine. Safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include <farmesh/activations.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

#include "base/bytes.hpp"

namespace farmesh::wire {

inline constexpr std::uint32_t kRowBlock = 32;      // values under one scale
inline constexpr std::uint16_t kMaxScale = 0x7c00;  // 2^121: 127 of it are finite in bf16 too

/// What frames call rows that travel so: the residual's dtype, or i8.
constexpr DType travelling_dtype(Activations activations, DType residual) noexcept {
  return activations == Activations::int8 ? DType::i8 : residual;
}

/// Bytes of a row in blocks.
constexpr std::size_t packed_row_bytes(std::uint32_t columns) noexcept {
  return columns + std::size_t{2} * ((std::size_t{columns} + kRowBlock - 1) / kRowBlock);
}

/// `rows`, whole rows of `columns` values in `residual` (f32 or bf16), in blocks. The largest
/// value of a block is 127 steps; the others are rounded to the nearest. Fails with bad_payload
/// when a value is NaN or infinite.
Result<Payload> pack_rows(ByteView rows, std::uint32_t columns, DType residual);

/// `count` rows out of blocks, in `residual`. Fails with bad_shape when `packed` is not as large
/// as that, or the rows would be larger than a payload may be; with bad_payload on a scale or byte
/// that cannot be.
Result<Payload> unpack_rows(ByteView packed, std::uint32_t count, std::uint32_t columns,
                            DType residual);

}  // namespace farmesh::wire
