#include "kernels/huge_buffer.hpp"

#include <new>
#include <utility>

#include <sys/mman.h>

namespace farmesh::kernels {
namespace {
constexpr std::uint64_t kHugePage = 2 << 20;
}

HugeBuffer::HugeBuffer(std::uint64_t bytes) {
  if (bytes == 0) return;
  const std::uint64_t slack = bytes >= kHugePage ? kHugePage : 0;
  if (bytes > UINT64_MAX / 2) throw std::bad_alloc();
  void* mapping =
      ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = mapping;
  mapped_ = bytes + slack;
  size_ = bytes;
  data_ = static_cast<std::byte*>(mapping);
  if (slack != 0) data_ += kHugePage - reinterpret_cast<std::uintptr_t>(mapping) % kHugePage;
#ifdef MADV_HUGEPAGE
  // Whole huge pages only: the tail must not round the resident size up. Advice, so not checked.
  if (slack != 0) ::madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

HugeBuffer HugeBuffer::map(int file, std::uint64_t offset, std::uint64_t bytes) {
  HugeBuffer buffer;
  if (bytes == 0 || bytes > UINT64_MAX / 4 || offset > UINT64_MAX / 4) return buffer;
  const std::uint64_t whole = offset + bytes;
  // Room first, then the file in it where a huge page of the one is a huge page of the other.
  void* room = ::mmap(nullptr, whole + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return buffer;
  buffer.mapping_ = room;
  buffer.mapped_ = whole + kHugePage;
  auto* begin = static_cast<std::byte*>(room);
  begin += kHugePage - reinterpret_cast<std::uintptr_t>(room) % kHugePage;
  if (::mmap(begin, whole, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) return {};
#ifdef MADV_HUGEPAGE
  ::madvise(begin, whole, MADV_HUGEPAGE);  // for what is not in the page cache yet; advice
#endif
  buffer.data_ = begin + offset;
  buffer.size_ = bytes;
  return buffer;
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

HugeBuffer::~HugeBuffer() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_);
}

}  // namespace farmesh::kernels
