#include "identity/node_key.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "base/secret_file.hpp"

namespace farmesh::identity {
namespace {

constexpr std::string_view kDomainStart = "farmesh ";
constexpr std::size_t kMaxDomain = 64;

struct FreeBio {
  void operator()(BIO* bio) const noexcept { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeDigest>;

const unsigned char* bytes_of(ByteView view) {
  return reinterpret_cast<const unsigned char*>(view.data());
}

bool begins_with_domain(ByteView message) {
  const ByteView start = as_view(kDomainStart);
  return message.size() >= start.size() && std::equal(start.begin(), start.end(), message.begin());
}

// What is signed: the domain, a zero, the message. A domain holds no zero, so the bytes of two
// kinds of statement differ.
std::string statement(std::string_view domain, ByteView message) {
  FARMESH_ASSERT(is_domain(domain));
  std::string bytes;
  bytes.reserve(domain.size() + 1 + message.size());
  bytes += domain;
  bytes += '\0';
  bytes.append(reinterpret_cast<const char*>(message.data()), message.size());
  return bytes;
}

Signature sign_with(EVP_PKEY* key, ByteView message) {
  Signature signature;
  std::size_t length = signature.size();
  const DigestContext context(EVP_MD_CTX_new());
  FARMESH_ASSERT(context &&
                 EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
                 EVP_DigestSign(context.get(), signature.data(), &length, bytes_of(message),
                                message.size()) == 1);
  return signature;
}

std::string to_pem(EVP_PKEY* key) {
  const Bio memory(BIO_new(BIO_s_mem()));
  FARMESH_ASSERT(memory && PEM_write_bio_PKCS8PrivateKey(memory.get(), key, nullptr, nullptr, 0,
                                                         nullptr, nullptr) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  std::string pem(data, static_cast<std::size_t>(size));
  OPENSSL_cleanse(data, static_cast<std::size_t>(size));
  return pem;
}

// Never asks the terminal for a password.
int no_password(char*, int, int, void*) { return -1; }

}  // namespace

NodeId node_id_of(const PublicKey& key) { return sha256(std::as_bytes(std::span(key))); }

NodeKey::NodeKey(std::shared_ptr<evp_pkey_st> key) : key_(std::move(key)) {
  std::size_t length = public_key_.size();
  FARMESH_ASSERT(EVP_PKEY_get_raw_public_key(key_.get(), public_key_.data(), &length) == 1);
  id_ = node_id_of(public_key_);
}

NodeKey NodeKey::generate() {
  std::array<std::uint8_t, 32> seed;
  random_bytes(seed);
  NodeKey key = from_seed(seed);
  OPENSSL_cleanse(seed.data(), seed.size());
  return key;
}

NodeKey NodeKey::from_seed(std::span<const std::uint8_t, 32> seed) {
  EVP_PKEY* key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size());
  FARMESH_ASSERT(key != nullptr);
  return NodeKey(std::shared_ptr<evp_pkey_st>(key, &EVP_PKEY_free));
}

Result<NodeKey> NodeKey::load(const std::filesystem::path& file) {
  Result<std::string> pem = read_secret_file(file);
  if (!pem) return pem.error();
  const Bio memory(BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size())));
  FARMESH_ASSERT(memory);
  std::shared_ptr<evp_pkey_st> key(
      PEM_read_bio_PrivateKey(memory.get(), nullptr, &no_password, nullptr), &EVP_PKEY_free);
  OPENSSL_cleanse(pem->data(), pem->size());
  if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) {
    return {Errc::config_invalid, file.string() + " holds no Ed25519 private key in PEM"};
  }
  return NodeKey(std::move(key));
}

Result<NodeKey> NodeKey::load_or_create(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    const NodeKey key = generate();
    std::string pem = to_pem(key.key_.get());
    const Result<bool> created = create_secret_file(file, pem);
    OPENSSL_cleanse(pem.data(), pem.size());
    if (!created) return created.error();
    if (*created) return key;
  }
  return load(file);
}

bool is_domain(std::string_view text) noexcept {
  return text.starts_with(kDomainStart) && text.size() <= kMaxDomain &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

Signature NodeKey::sign(std::string_view domain, ByteView message) const {
  return sign_with(key_.get(), as_view(statement(domain, message)));
}

Signature NodeKey::sign_bare(ByteView message) const {
  FARMESH_ASSERT(!begins_with_domain(message));
  return sign_with(key_.get(), message);
}

bool verify(const PublicKey& key, std::string_view domain, ByteView message,
            const Signature& signature) {
  return verify_bare(key, as_view(statement(domain, message)), signature);
}

bool verify_bare(const PublicKey& key, ByteView message, const Signature& signature) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> owner(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()),
      &EVP_PKEY_free);
  const DigestContext context(EVP_MD_CTX_new());
  FARMESH_ASSERT(owner && context);
  return EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, owner.get()) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(), bytes_of(message),
                          message.size()) == 1;
}

}  // namespace farmesh::identity
