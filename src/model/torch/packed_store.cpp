#include "model/torch/packed_store.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <span>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "model/torch/weight_loader.hpp"

namespace farmesh::model {
namespace {

constexpr std::uint64_t kChunk = 1 << 20;  // that one thread sums at a time
constexpr std::uint64_t kWrite = 8 << 20;  // at a time, so that the page cache takes huge pages

/// The first page of a file, little-endian; the matrix follows.
struct Header {
  std::array<char, 8> magic{'F', 'M', 'P', 'A', 'C', 'K', 'E', 'D'};
  std::uint32_t version = 2;  // of the layout in packed_matrix.hpp, and of this one
  std::uint32_t format = 0;
  std::uint64_t outs = 0;
  std::uint64_t cols = 0;
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
  std::array<std::uint8_t, 32> content{};
  std::array<std::uint8_t, 4016> zeros{};

  friend bool operator==(const Header&, const Header&) = default;
};
static_assert(sizeof(Header) == 4096);

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

bool read_all(int file, std::byte* to, std::uint64_t count, std::uint64_t offset) {
  while (count > 0) {
    const ssize_t got = ::pread(file, to, count, static_cast<off_t>(offset));
    if (got <= 0) return false;
    to += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::uint64_t>(got);
  }
  return true;
}

/// Both, one behind the other, in writes that begin and end where huge pages of the file do.
bool write_all(int file, ByteView head, ByteView rest) {
  std::uint64_t offset = 0;
  while (!head.empty() || !rest.empty()) {
    const std::uint64_t piece = kWrite - offset % kWrite;
    const std::uint64_t first = std::min<std::uint64_t>(head.size(), piece);
    const std::uint64_t second = std::min<std::uint64_t>(rest.size(), piece - first);
    const std::array<iovec, 2> parts{iovec{const_cast<std::byte*>(head.data()), first},
                                     iovec{const_cast<std::byte*>(rest.data()), second}};
    const ssize_t done = ::pwritev(file, parts.data(), 2, static_cast<off_t>(offset));
    if (done <= 0) return false;
    const auto written = static_cast<std::uint64_t>(done);
    head = head.subspan(std::min(written, first));
    rest = rest.subspan(written - std::min(written, first));
    offset += written;
  }
  return true;
}

using Pair = std::uint64_t __attribute__((vector_size(16)));

/// Against disks and torn files, not against people: who writes here may write the weights, too.
/// A word more turns its sum and is added to it, so that each word counts, and its place. Eight
/// sums side by side in vectors: memory is the limit.
std::uint64_t checksum_of(const std::byte* bytes, std::uint64_t count, std::uint64_t seed) {
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;
  constexpr std::size_t kLine = 4 * sizeof(Pair);
  Pair key{seed * kOdd, ~seed * kOdd};
  Pair a{}, b{}, c{}, d{};
  const auto add = [&key](Pair& sum, const std::byte* from) {
    Pair words;
    std::memcpy(&words, from, sizeof words);
    sum = (sum << 23 | sum >> 41) + (words ^ key);
  };
  const auto add_line = [&](const std::byte* line) {
    add(a, line);
    add(b, line + sizeof(Pair));
    add(c, line + 2 * sizeof(Pair));
    add(d, line + 3 * sizeof(Pair));
    key += kOdd;
  };
  for (; count >= kLine; count -= kLine, bytes += kLine) add_line(bytes);
  std::array<std::byte, kLine> rest{};
  std::memcpy(rest.data(), bytes, count);
  add_line(rest.data());
  std::uint64_t all = count;
  for (const Pair& sums : {a, b, c, d}) {
    for (const std::uint64_t sum : {sums[0], sums[1]}) {
      all = (all ^ sum) * 0xff51afd7ed558ccdU;
      all ^= all >> 29;
    }
  }
  return all;
}

/// body(offset, count, index) over chunks of `bytes`, on all threads; sums what it returns.
template <class Body>
std::uint64_t sum_chunks(kernels::ThreadPool& pool, std::uint64_t bytes, const Body& body) {
  std::atomic<std::uint64_t> sum{0};
  const auto chunks = static_cast<std::int64_t>((bytes + kChunk - 1) / kChunk);
  pool.for_each(chunks, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::uint64_t offset = static_cast<std::uint64_t>(i) * kChunk;
      sum += body(offset, std::min(kChunk, bytes - offset), static_cast<std::uint64_t>(i));
    }
  });
  return sum;
}

}  // namespace

std::filesystem::path PackedStore::file_of(const std::string& key) const {
  return where_.folder / (key + ".packed");
}

std::optional<kernels::PackedMatrix> PackedStore::find(kernels::ThreadPool& pool,
                                                       const std::string& key,
                                                       kernels::WeightFormat format,
                                                       std::int64_t outs, std::int64_t cols) const {
  if (where_.folder.empty()) return std::nullopt;
  const Descriptor file(::open(file_of(key).c_str(), O_RDONLY | O_CLOEXEC));
  Header found;
  if (file.get() < 0 ||
      !read_all(file.get(), reinterpret_cast<std::byte*>(&found), sizeof found, 0)) {
    return std::nullopt;
  }
  Header expected;
  expected.format = static_cast<std::uint32_t>(format);
  expected.outs = static_cast<std::uint64_t>(outs);
  expected.cols = static_cast<std::uint64_t>(cols);
  expected.bytes = kernels::PackedMatrix::bytes_for(format, outs, cols);
  expected.checksum = found.checksum;
  expected.content = where_.content.bytes;
  struct stat status {};
  if (found != expected || ::fstat(file.get(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) != sizeof found + expected.bytes) {
    return std::nullopt;
  }
  kernels::HugeBuffer memory = kernels::HugeBuffer::map(file.get(), sizeof found, expected.bytes);
  if (memory.size() != expected.bytes) return std::nullopt;
  const auto sum_chunk = [&](std::uint64_t offset, std::uint64_t count, std::uint64_t index) {
    return checksum_of(memory.data() + offset, count, index);
  };
  if (sum_chunks(pool, expected.bytes, sum_chunk) != found.checksum) return std::nullopt;
  return kernels::PackedMatrix::adopt(format, outs, cols, std::move(memory));
}

void PackedStore::keep(kernels::ThreadPool& pool, const std::string& key,
                       const kernels::PackedMatrix& matrix) const {
  if (where_.folder.empty() || !where_.write) return;
  Header header;
  header.format = static_cast<std::uint32_t>(matrix.format());
  header.outs = static_cast<std::uint64_t>(matrix.outs());
  header.cols = static_cast<std::uint64_t>(matrix.cols());
  header.bytes = matrix.bytes();
  header.content = where_.content.bytes;
  header.checksum = sum_chunks(pool, matrix.bytes(),
                               [&](std::uint64_t offset, std::uint64_t count, std::uint64_t index) {
                                 return checksum_of(matrix.panels() + offset, count, index);
                               });
  std::error_code failed;
  std::filesystem::create_directories(where_.folder, failed);
  // A name of this process's own, then renamed: a reader never sees half a file.
  const std::filesystem::path path = file_of(key);
  const std::string draft = path.string() + "." + std::to_string(::getpid());
  bool written = false;
  {
    const Descriptor file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    written = file.get() >= 0 && write_all(file.get(), std::as_bytes(std::span(&header, 1)),
                                           {matrix.panels(), matrix.bytes()});
  }
  if (written) std::filesystem::rename(draft, path, failed);
  if (!written || failed) {
    std::filesystem::remove(draft, failed);
    throw LoadFailure{{Errc::io_error, "cannot write " + path.string()}};
  }
}

}  // namespace farmesh::model
