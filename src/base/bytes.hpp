// Bytes at rest: an owning aligned buffer, and an immutable shared view of part of one.
//
// A Payload is what travels: a frame's tensor is received once into an AlignedBuffer and then
// shared, uncopied, by the scheduler, the session's history and the forwarding link.
// Buffer: one owner. Payload: immutable, safe to share between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace farmesh {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;

inline ByteView as_view(std::span<const char> text) noexcept { return std::as_bytes(text); }

/// Uninitialised memory on a 64-byte boundary, so that kernels may use aligned loads.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  /// Throws std::bad_alloc; callers bound `size` before they get here.
  explicit AlignedBuffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
    if (!data_) throw std::bad_alloc();
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  MutableByteView view() noexcept { return {data_.get(), size_}; }
  ByteView view() const noexcept { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

class Payload {
 public:
  Payload() = default;
  explicit Payload(AlignedBuffer buffer) {
    auto owner = std::make_shared<const AlignedBuffer>(std::move(buffer));
    view_ = owner->view();
    owner_ = std::move(owner);
  }
  /// Somebody else's memory, which `owner` keeps where it is and nobody changes.
  Payload(std::shared_ptr<const void> owner, ByteView bytes)
      : owner_(std::move(owner)), view_(bytes) {}

  static Payload copy_of(ByteView bytes) {
    AlignedBuffer buffer(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return Payload(std::move(buffer));
  }

  ByteView view() const noexcept { return view_; }
  std::size_t size() const noexcept { return view_.size(); }
  bool empty() const noexcept { return view_.empty(); }

  /// Shares the same memory. `offset + count` must lie inside this payload.
  Payload slice(std::size_t offset, std::size_t count) const {
    Payload part;
    part.owner_ = owner_;
    part.view_ = view_.subspan(offset, count);
    return part;
  }

 private:
  std::shared_ptr<const void> owner_;
  ByteView view_;
};

}  // namespace farmesh
