#include "identity/key_claim.hpp"

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace farmesh::identity {
namespace {

struct Lock {
  explicit Lock(int f) : file(f) {}
  ~Lock() {
    if (file >= 0) ::close(file);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  int file;
};

// Null when another process holds it.
Result<std::shared_ptr<void>> lock(const std::filesystem::path& file) {
  auto held = std::make_shared<Lock>(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (held->file >= 0 && ::flock(held->file, LOCK_EX | LOCK_NB) == 0) {
    return std::shared_ptr<void>(std::move(held));
  }
  if (errno == EWOULDBLOCK) return std::shared_ptr<void>();
  return {Errc::io_error, file.string() + ": " + std::generic_category().message(errno)};
}

}  // namespace

Result<KeyClaim> KeyClaim::of_file(const std::filesystem::path& file) {
  const Result<NodeKey> key = NodeKey::load_or_create(file);
  if (!key) return key.error();
  Result<std::shared_ptr<void>> held = lock(file);
  if (!held) return held.error();
  if (!*held) return {Errc::config_invalid, file.string() + " is in use by another process"};
  return KeyClaim(*key, file, *std::move(held));
}

Result<KeyClaim> KeyClaim::in_folder(const std::filesystem::path& folder) {
  for (int number = 1; number <= kMaxNodesInFolder; ++number) {
    const std::string name = number == 1 ? "node.key" : "node-" + std::to_string(number) + ".key";
    const Result<NodeKey> key = NodeKey::load_or_create(folder / name);
    if (!key) return key.error();
    Result<std::shared_ptr<void>> held = lock(folder / name);
    if (!held) return held.error();
    if (*held) return KeyClaim(*key, folder / name, *std::move(held));
  }
  return {Errc::config_invalid, "all keys in " + folder.string() + " are in use"};
}

}  // namespace farmesh::identity
