// SHA-256 Merkle trees of files as BitTorrent v2 has them (BEP 52): leaves of 16 KiB, padded.
//
// Pure, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "base/mapped_file.hpp"

namespace farmesh::model {

inline constexpr std::uint64_t kLeafBytes = 16'384;

/// The root over `hashes`, padded with `pad` to a power of two. One hash is its own root.
Sha256Digest merkle_root(std::vector<Sha256Digest> hashes, const Sha256Digest& pad = {});

/// Leaf hashes by all cores; the pages read leave memory again. Empty for an empty file.
std::vector<Sha256Digest> leaf_hashes(const MappedFile& file);

/// A file's root from its leaves; of at least one.
Sha256Digest file_root(const std::vector<Sha256Digest>& leaves);

/// The tree's layer at `piece_bytes`, a power of two of at least kLeafBytes: one hash a piece.
/// Its own file_root() is the one hash of a file that is no longer than a piece.
std::vector<Sha256Digest> piece_hashes(const std::vector<Sha256Digest>& leaves,
                                       std::uint64_t piece_bytes);

/// The root of a file of several pieces from their hashes.
Sha256Digest root_of_pieces(const std::vector<Sha256Digest>& pieces, std::uint64_t piece_bytes);

/// The hash of one piece from its bytes, which may be fewer at a file's end. `whole_file`: the
/// piece is all of its file.
Sha256Digest piece_hash(ByteView bytes, std::uint64_t piece_bytes, bool whole_file);

}  // namespace farmesh::model
