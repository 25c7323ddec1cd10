#include "base/secret_file.hpp"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

namespace farmesh {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }

 private:
  int number_;
};

Error refused(const fs::path& file) {
  const int number = errno;
  return {Errc::io_error, file.string() + ": " + std::generic_category().message(number)};
}

bool write_all(int file, std::string_view content) {
  while (!content.empty()) {
    const ssize_t wrote = ::write(file, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    content.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return true;
}

// Folders that are missing, each for the owner alone.
Result<void> make_folders(const fs::path& folder) {
  if (folder.empty() || ::access(folder.c_str(), F_OK) == 0) return {};
  const Result<void> above = make_folders(folder.parent_path());
  if (!above) return above;
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return refused(folder);
  return {};
}

}  // namespace

Result<std::string> read_secret_file(const fs::path& file) {
  // Not blocking: a pipe that stands where the file should be is refused, not waited for.
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!opened) {
    if (errno == ENOENT) return {Errc::config_invalid, file.string() + ": no such file"};
    return refused(file);
  }
  struct stat about {};
  if (::fstat(opened.get(), &about) != 0) return refused(file);
  if (!S_ISREG(about.st_mode)) return {Errc::config_invalid, file.string() + " is no regular file"};
  if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return {Errc::config_invalid,
            file.string() + " can be used by others than its owner; chmod 600 makes it private"};
  }
  if (about.st_size > static_cast<off_t>(kMaxSecretFileBytes)) {
    return {Errc::config_invalid, file.string() + " is too large for a key or token"};
  }
  std::string content(static_cast<std::size_t>(about.st_size), '\0');
  std::size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = ::read(opened.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refused(file);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  content.resize(filled);
  return content;
}

Result<bool> create_secret_file(const fs::path& file, std::string_view content) {
  const Result<void> folders = make_folders(file.parent_path());
  if (!folders) return folders.error();
  std::string draft = file.string() + ".XXXXXX";
  const Descriptor opened(::mkostemp(draft.data(), O_CLOEXEC));  // mode 0600
  if (!opened) return refused(file);
  const bool written = write_all(opened.get(), content) && ::fsync(opened.get()) == 0;
  // A hard link, unlike a rename, never replaces what another process made meanwhile.
  const bool linked = written && ::link(draft.c_str(), file.c_str()) == 0;
  const int why = errno;
  ::unlink(draft.c_str());
  errno = why;
  if (!linked) {
    if (written && errno == EEXIST) return false;
    return refused(file);
  }
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory) ::fsync(directory.get());  // best effort: some file systems refuse it
  return true;
}

}  // namespace farmesh
