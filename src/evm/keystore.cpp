#include "evm/keystore.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <new>

#include <cryptopp/scrypt.h>
#include <nlohmann/json.hpp>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kDerivedBytes = 32;  // 16 for the cipher, 16 for the check
constexpr std::size_t kMaxSaltBytes = 256;
constexpr std::uint64_t kMaxScryptParameter = 1ULL << 24;  // so that products fit 64 bits

Error invalid(const std::string& why) { return {Errc::keystore_invalid, "keystore: " + why}; }

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::string_view text_of(const Json& object, const char* name) {
  const Json* value = member(object, name);
  const std::string* text = value != nullptr ? value->get_ptr<const std::string*>() : nullptr;
  return text != nullptr ? std::string_view(*text) : std::string_view();
}

// 0, which no parameter may be, for whatever is not a positive number.
std::uint64_t number_of(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value != nullptr && value->is_number_unsigned() ? value->get<std::uint64_t>() : 0;
}

bool bytes_of(const Json& object, const char* name, std::span<std::uint8_t> out) {
  return from_hex(text_of(object, name), out);
}

bool is_affordable(std::uint64_t n, std::uint64_t r, std::uint64_t p) {
  if (n < 2 || r == 0 || p == 0 || !std::has_single_bit(n)) return false;
  if (n > kMaxScryptParameter || r > kMaxScryptParameter || p > kMaxScryptParameter) return false;
  return r * (n + p) <= kMaxScryptBytes / 128 && n * r <= kMaxScryptWork / p;
}

// Crypto++'s, because OpenSSL refuses n >= 2^16 with r = 1, which the format's own example has.
bool run_scrypt(std::string_view password, BytesView salt, ScryptCost cost, Secret& derived) {
  const BytesView secret = view_of(password);
  try {
    CryptoPP::Scrypt().DeriveKey(derived.bytes().data(), derived.size(), secret.data(),
                                 secret.size(), salt.data(), salt.size(), cost.n, cost.r, cost.p);
  } catch (const CryptoPP::Exception&) {
    return false;
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

Result<Secret> derive(const Json& crypto, std::string_view password) {
  const Json* parameters = member(crypto, "kdfparams");
  if (parameters == nullptr) return invalid("no kdfparams");
  const std::string_view salt_text = text_of(*parameters, "salt");
  Bytes salt(std::min(salt_text.size() / 2, kMaxSaltBytes));
  if (!from_hex(salt_text, salt)) return invalid("a salt that is no hexadecimal or too long");
  if (number_of(*parameters, "dklen") != kDerivedBytes) return invalid("dklen is not 32");

  Secret derived(kDerivedBytes);
  const std::string_view kdf = text_of(crypto, "kdf");
  if (kdf == "scrypt") {
    const ScryptCost cost{number_of(*parameters, "n"), number_of(*parameters, "r"),
                          number_of(*parameters, "p")};
    if (!is_affordable(cost.n, cost.r, cost.p)) {
      return invalid("scrypt parameters that are wrong, or above 512 MiB or 2^22 steps");
    }
    if (!run_scrypt(password, salt, cost, derived)) return invalid("there is no memory to open it");
    return derived;
  }
  if (kdf != "pbkdf2") return invalid("a key derivation other than scrypt and pbkdf2");
  const std::uint64_t rounds = number_of(*parameters, "c");
  if (rounds == 0 || rounds > kMaxPbkdf2Rounds || text_of(*parameters, "prf") != "hmac-sha256") {
    return invalid("pbkdf2 parameters that are wrong, or above 2,000,000 rounds");
  }
  FARMESH_ASSERT(PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt.data(),
                                   static_cast<int>(salt.size()), static_cast<int>(rounds),
                                   EVP_sha256(), static_cast<int>(derived.size()),
                                   derived.bytes().data()) == 1);
  return derived;
}

// The same both ways: a stream of bytes is added to the data.
void aes_128_ctr(BytesView key, BytesView iv, BytesView from, std::span<std::uint8_t> to) {
  const std::unique_ptr<EVP_CIPHER_CTX, void (*)(EVP_CIPHER_CTX*)> context(EVP_CIPHER_CTX_new(),
                                                                           EVP_CIPHER_CTX_free);
  int written = 0;
  FARMESH_ASSERT(
      context != nullptr && from.size() == to.size() && key.size() == 16 &&
      EVP_EncryptInit_ex(context.get(), EVP_aes_128_ctr(), nullptr, key.data(), iv.data()) == 1 &&
      EVP_EncryptUpdate(context.get(), to.data(), &written, from.data(),
                        static_cast<int>(from.size())) == 1);
}

Bytes32 check_of(const Secret& derived, BytesView ciphertext) {
  Bytes checked(derived.bytes().begin() + 16, derived.bytes().end());
  append(checked, ciphertext);
  const Bytes32 mac = keccak256(checked);
  wipe(checked);
  return mac;
}

std::string random_uuid() {
  std::array<std::uint8_t, 16> bytes{};
  random_bytes(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string text = to_hex(bytes);
  for (const std::size_t at : {8U, 13U, 18U, 23U}) text.insert(at, 1, '-');
  return text;
}

}  // namespace

Result<PrivateKey> open_keystore(std::string_view json, std::string_view password) {
  if (json.size() > kMaxKeystoreBytes) return invalid("more than 16 KiB");
  const Json document = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) return invalid("not a JSON object");
  if (number_of(document, "version") != 3) return invalid("not of version 3");
  const Json* crypto = member(document, "crypto");
  if (crypto == nullptr) crypto = member(document, "Crypto");  // as early wallets wrote it
  if (crypto == nullptr) return invalid("no crypto");
  if (text_of(*crypto, "cipher") != "aes-128-ctr") return invalid("a cipher but aes-128-ctr");

  std::array<std::uint8_t, 16> iv{};
  Bytes32 ciphertext{};
  Bytes32 mac{};
  const Json* cipher_parameters = member(*crypto, "cipherparams");
  if (cipher_parameters == nullptr || !bytes_of(*cipher_parameters, "iv", iv) ||
      !bytes_of(*crypto, "ciphertext", ciphertext) || !bytes_of(*crypto, "mac", mac)) {
    return invalid("an iv, ciphertext or mac that is missing or of a wrong length");
  }

  const Result<Secret> derived = derive(*crypto, password);
  if (!derived) return derived.error();
  const Bytes32 expected = check_of(*derived, ciphertext);
  if (CRYPTO_memcmp(expected.data(), mac.data(), mac.size()) != 0) {
    return Error{Errc::password_wrong, "the password does not open the keystore"};
  }
  Secret plain(ciphertext.size());
  aes_128_ctr(derived->bytes().first(16), iv, ciphertext, plain.bytes());
  Result<PrivateKey> key = PrivateKey::from_bytes(plain.bytes());
  if (!key) return invalid("what it holds is no key");

  std::string_view address = text_of(document, "address");
  if (address.starts_with("0x")) address.remove_prefix(2);
  Address named;
  if (!address.empty() && (!from_hex(address, named.bytes) || named != key->address())) {
    return invalid("its key belongs to another address than it says");
  }
  return key;
}

std::string seal_keystore(const PrivateKey& key, std::string_view password, ScryptCost cost) {
  FARMESH_ASSERT(is_affordable(cost.n, cost.r, cost.p));
  Bytes32 salt{};
  std::array<std::uint8_t, 16> iv{};
  Bytes32 ciphertext{};
  random_bytes(salt);
  random_bytes(iv);
  Secret derived(kDerivedBytes);
  FARMESH_ASSERT(run_scrypt(password, salt, cost, derived));
  aes_128_ctr(std::as_const(derived).bytes().first(16), iv, key.bytes(), ciphertext);
  const Json parameters = {{"dklen", kDerivedBytes},
                           {"n", cost.n},
                           {"p", cost.p},
                           {"r", cost.r},
                           {"salt", to_hex(salt)}};
  const Json document = {{"address", to_hex(key.address().bytes)},
                         {"crypto",
                          {{"cipher", "aes-128-ctr"},
                           {"cipherparams", {{"iv", to_hex(iv)}}},
                           {"ciphertext", to_hex(ciphertext)},
                           {"kdf", "scrypt"},
                           {"kdfparams", parameters},
                           {"mac", to_hex(check_of(derived, ciphertext))}}},
                         {"id", random_uuid()},
                         {"version", 3}};
  return document.dump();
}

Result<PrivateKey> parse_private_key(std::string_view text) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  Secret bytes(32);
  if (!from_hex(text, bytes.bytes())) {
    return Error{Errc::config_invalid, "a private key is 64 hexadecimal digits"};
  }
  Result<PrivateKey> key = PrivateKey::from_bytes(bytes.bytes());
  if (!key) return Error{Errc::config_invalid, key.error().detail};
  return key;
}

Result<PrivateKey> load_key(const KeySource& source) {
  if (source.key_descriptor >= 0) {
    const Result<Secret> text = read_secret(source.key_descriptor);
    if (!text) return text.error();
    return parse_private_key(text->text());
  }
  if (source.keystore.empty()) return Error{Errc::config_invalid, "no wallet key was given"};
  const Result<Secret> password = source.password_descriptor >= 0
                                      ? read_secret(source.password_descriptor)
                                      : read_secret(source.password_file);
  if (!password) return password.error();
  const Result<Secret> json = read_secret(source.keystore);
  if (!json) return json.error();
  return open_keystore(json->text(), password->text());
}

}  // namespace farmesh::evm
