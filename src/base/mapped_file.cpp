#include "base/mapped_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace farmesh {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Error system_error(const std::filesystem::path& path, int error) {
  const Errc code = error == ENOENT || error == ENOTDIR ? Errc::model_not_found : Errc::io_error;
  return {code, path.filename().string() + ": " + std::strerror(error)};
}

/// Opens a regular file and reports its size.
Result<std::size_t> open_regular(const std::filesystem::path& path, Descriptor& file) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) return system_error(path, errno);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) return system_error(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return {Errc::model_not_found, path.filename().string() + ": not a regular file"};
  }
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  Descriptor file{-1};
  const Result<std::size_t> size = open_regular(path, file);
  if (!size) return size.error();
  MappedFile mapped;
  if (*size == 0) return mapped;
  void* data = ::mmap(nullptr, *size, PROT_READ, MAP_SHARED, file.fd, 0);
  if (data == MAP_FAILED) return system_error(path, errno);
  mapped.data_ = static_cast<const std::byte*>(data);
  mapped.size_ = *size;
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::uint64_t offset, std::uint64_t count) const noexcept {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t end = std::min<std::uint64_t>(offset + count, size_) / page * page;
  const std::uint64_t begin = (offset + page - 1) / page * page;
  if (begin >= end) return;
  // A clean shared mapping: its pages stay in the page cache and return when touched again.
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  Descriptor file{-1};
  const Result<std::size_t> size = open_regular(path, file);
  if (!size) return size.error();
  if (*size > max_bytes) {
    return {Errc::model_malformed,
            path.filename().string() + ": larger than " + std::to_string(max_bytes) + " bytes"};
  }
  std::string text(*size, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.fd, text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, errno);
    if (got == 0) break;  // shrank while reading
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

}  // namespace farmesh
