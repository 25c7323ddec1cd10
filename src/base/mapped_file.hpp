// A read-only file mapping. Pages enter memory when touched and may be dropped by range.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"

namespace farmesh {

/// Movable, one owner; reads are safe from several threads.
class MappedFile {
 public:
  /// Fails with model_not_found (absent, not a regular file) or io_error. An empty file maps to
  /// an empty view.
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  ByteView bytes() const noexcept { return {data_, size_}; }

  /// Lets the pages that lie wholly inside [offset, offset + count) leave memory.
  void drop(std::uint64_t offset, std::uint64_t count) const noexcept;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file as text, at most `max_bytes`. Fails with model_not_found, io_error or
/// model_malformed (larger than that).
Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace farmesh
