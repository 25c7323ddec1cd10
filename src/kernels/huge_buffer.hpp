// Zeroed memory for weights and caches, on huge pages where the system gives them: a decode step
// walks all of it once, and small pages would cost a table walk every 4 KB.
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
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;  // on a huge-page boundary when larger than one
  std::uint64_t size_ = 0;
  void* mapping_ = nullptr;
  std::uint64_t mapped_ = 0;
};

}  // namespace farmesh::kernels
