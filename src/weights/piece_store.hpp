// A folder of files of which only some pieces are there yet. What is there survives a kill at any
// moment: a piece is marked after its bytes are on the disk.
//
// Files lie where a whole model has them, with holes; ".farmesh" beside them has the marks and the
// lock. Threading: write() and has() from any thread, the rest from one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"

namespace farmesh::weights {

struct FileState {
  std::uint64_t length = 0;
  std::string etag;  // empty: not pinned
  std::vector<bool> have;
};

struct StoreState {
  std::uint64_t piece_bytes = 0;
  std::map<std::string, FileState> files;
};

std::string encode_state(const StoreState& state);
/// Nothing unless every size, name and mark is one that encode_state() could have written.
std::optional<StoreState> parse_state(std::string_view text);

/// An owned descriptor.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) noexcept : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(other.value_) { other.value_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const noexcept { return value_; }

 private:
  int value_;
};

class PieceStore {
 public:
  /// Makes the folder. Fails with io_error.
  static Result<std::unique_ptr<PieceStore>> open(std::filesystem::path folder,
                                                  std::uint64_t piece_bytes);

  /// Held by one process at a time while it writes; others wait. What they had is known then.
  class Lock {
   public:
    explicit Lock(Descriptor file) noexcept : file_(std::move(file)) {}

   private:
    Descriptor file_;
  };
  Result<Lock> lock();

  const std::filesystem::path& folder() const noexcept { return folder_; }
  std::uint64_t piece_bytes() const noexcept { return state_.piece_bytes; }
  const FileState* find(const std::string& file) const;
  bool has(const std::string& file, std::size_t piece) const;
  bool is_whole(const std::string& file) const;
  std::size_t piece_count(const std::string& file) const;
  /// Bytes of one piece; fewer at the file's end.
  std::uint64_t bytes_of(const std::string& file, std::size_t piece) const;

  /// A file of that length, empty at first. Fails with hub_changed where one was begun that is
  /// another by length or ETag, with io_error.
  Result<void> begin(const std::string& file, std::uint64_t length, const std::string& etag);
  /// Once: a file whose content is known whole.
  Result<void> put(const std::string& file, std::string_view bytes, const std::string& etag);
  Result<void> write(const std::string& file, std::size_t piece, ByteView bytes);
  /// Marks a piece that somebody else wrote into the file.
  Result<void> adopt(const std::string& file, std::size_t piece);
  /// Bytes that are there, from the disk.
  Result<std::string> read(const std::string& file, std::uint64_t begin, std::uint64_t end) const;
  /// To the disk: first the pieces, then their marks.
  Result<void> save();

  /// What the file system would still take.
  std::uint64_t free_bytes() const;

 private:
  PieceStore(std::filesystem::path folder, std::uint64_t piece_bytes);
  void load();
  Result<int> descriptor_of(const std::string& file);

  const std::filesystem::path folder_;
  mutable std::mutex mutex_;  // of all below
  StoreState state_;
  std::map<std::string, Descriptor> open_;  // written since the last save()
};

}  // namespace farmesh::weights
