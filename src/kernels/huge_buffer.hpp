// Memory for weights and caches, zeroed or a file's, on huge pages where the system gives them: a
// decode step walks all of it once, and small pages would cost a table walk every 4 KB.
#pragma once

#include <cstddef>
#include <cstdint>

namespace farmesh::kernels {

/// Movable, one owner. Memory counts as used when it is touched.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  /// Throws std::bad_alloc.
  explicit HugeBuffer(std::uint64_t bytes);
  /// `bytes` of an open file from `offset` on, to read only: the page cache's own memory, without a
  /// copy. Empty where the system refuses. The file must not shrink while it is mapped.
  static HugeBuffer map(int file, std::uint64_t offset, std::uint64_t bytes);
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;  // when larger than a huge page: on such a boundary, as in the file
  std::uint64_t size_ = 0;
  void* mapping_ = nullptr;
  std::uint64_t mapped_ = 0;
};

}  // namespace farmesh::kernels
