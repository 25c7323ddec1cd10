#include "evm/secret.hpp"

#include <cerrno>

#include <openssl/crypto.h>
#include <unistd.h>

#include "base/secret_file.hpp"

namespace farmesh::evm {

void wipe(std::span<std::uint8_t> bytes) noexcept { OPENSSL_cleanse(bytes.data(), bytes.size()); }

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    wipe(bytes_);
    bytes_ = std::move(other.bytes_);
  }
  return *this;
}

namespace {

Secret without_newline(BytesView bytes) {
  if (!bytes.empty() && bytes.back() == '\n') bytes = bytes.first(bytes.size() - 1);
  if (!bytes.empty() && bytes.back() == '\r') bytes = bytes.first(bytes.size() - 1);
  return Secret(bytes);
}

}  // namespace

Result<Secret> read_secret(const std::filesystem::path& file) {
  Result<std::string> content = read_secret_file(file);
  if (!content) return content.error();
  Secret secret = without_newline(view_of(*content));
  wipe({reinterpret_cast<std::uint8_t*>(content->data()), content->size()});
  return secret;
}

Result<Secret> read_secret(int descriptor) {
  Secret buffer(kMaxSecretFileBytes + 1);
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t count =
        ::read(descriptor, buffer.bytes().data() + filled, buffer.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error{Errc::io_error, "cannot read the secret's descriptor"};
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  if (filled > kMaxSecretFileBytes) return Error{Errc::config_invalid, "the secret is too long"};
  return without_newline(buffer.bytes().first(filled));
}

}  // namespace farmesh::evm
