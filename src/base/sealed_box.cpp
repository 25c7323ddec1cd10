#include "base/sealed_box.hpp"

#include <algorithm>
#include <memory>
#include <span>

#include <openssl/evp.h>

#include "base/assert.hpp"
#include "base/digest.hpp"

namespace farmesh {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kMaxBytes = std::size_t(1) << 30;  // OpenSSL counts in int

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Context new_context() {
  Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  FARMESH_ASSERT(context != nullptr);
  return context;
}

const std::uint8_t* bytes(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

std::uint8_t* bytes(std::string& text) { return reinterpret_cast<std::uint8_t*>(text.data()); }

}  // namespace

std::string SealedBox::seal(std::string_view plain, std::string_view about) const {
  FARMESH_ASSERT(plain.size() <= kMaxBytes);
  std::array<std::uint8_t, kNonceBytes> nonce;
  random_bytes(nonce);
  std::string sealed(kNonceBytes + plain.size() + kTagBytes, '\0');
  std::copy(nonce.begin(), nonce.end(), bytes(sealed));
  std::uint8_t* text = bytes(sealed) + kNonceBytes;
  const Context context = new_context();
  int written = 0;
  const bool done =
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key_.data(), nonce.data()) ==
          1 &&
      EVP_EncryptUpdate(context.get(), nullptr, &written, bytes(about), int(about.size())) == 1 &&
      EVP_EncryptUpdate(context.get(), text, &written, bytes(plain), int(plain.size())) == 1 &&
      EVP_EncryptFinal_ex(context.get(), text + plain.size(), &written) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, int(kTagBytes),
                          text + plain.size()) == 1;
  FARMESH_ASSERT(done);
  return sealed;
}

Result<std::string> SealedBox::open(std::string_view sealed, std::string_view about) const {
  const Error refused{Errc::config_invalid, "sealed under another key, or damaged"};
  if (sealed.size() < kNonceBytes + kTagBytes || sealed.size() > kMaxBytes) return refused;
  const std::size_t size = sealed.size() - kNonceBytes - kTagBytes;
  const std::uint8_t* text = bytes(sealed) + kNonceBytes;
  std::string plain(size + 1, '\0');  // never empty: OpenSSL takes a null output for something else
  std::array<std::uint8_t, kTagBytes> tag;
  std::copy(text + size, text + size + kTagBytes, tag.begin());
  const Context context = new_context();
  int written = 0;
  const bool whole =
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key_.data(), bytes(sealed)) ==
          1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &written, bytes(about), int(about.size())) == 1 &&
      EVP_DecryptUpdate(context.get(), bytes(plain), &written, text, int(size)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, int(kTagBytes), tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context.get(), bytes(plain) + size, &written) == 1;
  if (!whole) return refused;
  plain.resize(size);
  return plain;
}

}  // namespace farmesh
