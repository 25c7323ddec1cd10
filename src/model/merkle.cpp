#include "model/merkle.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "base/assert.hpp"
#include "base/thread.hpp"

namespace farmesh::model {
namespace {

constexpr std::uint64_t kRunLeaves = 256;  // hashed by one thread at a time: 4 MiB

Sha256Digest hash_pair(const Sha256Digest& left, const Sha256Digest& right) {
  std::array<std::uint8_t, 64> both;
  std::copy(left.begin(), left.end(), both.begin());
  std::copy(right.begin(), right.end(), both.begin() + 32);
  return sha256(std::as_bytes(std::span(both)));
}

/// What a piece that holds nothing but padding hashes to.
Sha256Digest padding_of(std::uint64_t piece_bytes) {
  Sha256Digest hash{};
  for (std::uint64_t width = kLeafBytes; width < piece_bytes; width *= 2) {
    hash = hash_pair(hash, hash);
  }
  return hash;
}

}  // namespace

Sha256Digest merkle_root(std::vector<Sha256Digest> hashes, const Sha256Digest& pad) {
  std::size_t width = 1;
  while (width < hashes.size()) width *= 2;
  hashes.resize(width, pad);
  for (; width > 1; width /= 2) {
    for (std::size_t i = 0; i < width / 2; ++i) {
      hashes[i] = hash_pair(hashes[2 * i], hashes[2 * i + 1]);
    }
  }
  return hashes[0];
}

std::vector<Sha256Digest> leaf_hashes(const MappedFile& file) {
  const ByteView bytes = file.bytes();
  const std::uint64_t count = (bytes.size() + kLeafBytes - 1) / kLeafBytes;
  std::vector<Sha256Digest> leaves(count);
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (;;) {
      const std::uint64_t begin = next.fetch_add(kRunLeaves);
      if (begin >= count) return;
      const std::uint64_t end = std::min(begin + kRunLeaves, count);
      for (std::uint64_t i = begin; i < end; ++i) {
        const std::uint64_t offset = i * kLeafBytes;
        leaves[i] = sha256(bytes.subspan(offset, std::min(kLeafBytes, bytes.size() - offset)));
      }
      file.drop(begin * kLeafBytes, (end - begin) * kLeafBytes);
    }
  };
  const std::uint64_t runs = (count + kRunLeaves - 1) / kRunLeaves;
  const auto threads_wanted =
      std::min<std::uint64_t>(runs, static_cast<std::uint64_t>(available_cores()));
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i < threads_wanted; ++i) {
    threads.push_back(start_thread("fm-hash", work));
  }
  work();
  for (std::thread& thread : threads) thread.join();
  return leaves;
}

Sha256Digest file_root(const std::vector<Sha256Digest>& leaves) {
  FARMESH_ASSERT(!leaves.empty());
  return merkle_root(leaves);
}

std::vector<Sha256Digest> piece_hashes(const std::vector<Sha256Digest>& leaves,
                                       std::uint64_t piece_bytes) {
  const std::size_t width = piece_bytes / kLeafBytes;
  if (leaves.size() <= width) return {file_root(leaves)};
  std::vector<Sha256Digest> pieces;
  for (std::size_t begin = 0; begin < leaves.size(); begin += width) {
    const std::size_t end = std::min(begin + width, leaves.size());
    std::vector<Sha256Digest> part(leaves.begin() + static_cast<std::ptrdiff_t>(begin),
                                   leaves.begin() + static_cast<std::ptrdiff_t>(end));
    part.resize(width);  // zero hashes
    pieces.push_back(merkle_root(std::move(part)));
  }
  return pieces;
}

Sha256Digest root_of_pieces(const std::vector<Sha256Digest>& pieces, std::uint64_t piece_bytes) {
  return merkle_root(pieces, padding_of(piece_bytes));
}

Sha256Digest piece_hash(ByteView bytes, std::uint64_t piece_bytes, bool whole_file) {
  FARMESH_ASSERT(!bytes.empty() && bytes.size() <= piece_bytes);
  std::vector<Sha256Digest> leaves;
  for (std::size_t begin = 0; begin < bytes.size(); begin += kLeafBytes) {
    leaves.push_back(
        sha256(bytes.subspan(begin, std::min<std::size_t>(kLeafBytes, bytes.size() - begin))));
  }
  if (!whole_file) leaves.resize(piece_bytes / kLeafBytes);
  return merkle_root(std::move(leaves));
}

}  // namespace farmesh::model
