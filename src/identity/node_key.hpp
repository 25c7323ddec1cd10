// The key a node is known by: Ed25519, kept in a file of mode 0600, hashed into its node id.
//
// Takes bytes that a room wants to vouch for, gives signatures; net/ makes the node's TLS
// certificate from the same key. Every kind of signed statement has a domain of its own, so that
// a signature of one kind can never be taken for another.
// A value type that shares the key's memory; const calls are safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/node_id.hpp"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace farmesh::identity {

using PublicKey = std::array<std::uint8_t, 32>;
using Signature = std::array<std::uint8_t, 64>;

NodeId node_id_of(const PublicKey& key);

/// Whether it may be the domain of a signature, as NodeKey::sign() has them.
bool is_domain(std::string_view text) noexcept;

class NodeKey {
 public:
  static NodeKey generate();
  /// The key whose secret is these bytes (RFC 8032, 5.1.5).
  static NodeKey from_seed(std::span<const std::uint8_t, 32> seed);
  /// A PEM file (PKCS #8). Fails as read_secret_file() does, or with config_invalid when it holds
  /// no Ed25519 private key.
  static Result<NodeKey> load(const std::filesystem::path& file);
  /// Loads the file, or makes it with a new key. Of two processes that start at once both get
  /// the same key. Fails as load() does, or with io_error.
  static Result<NodeKey> load_or_create(const std::filesystem::path& file);

  const PublicKey& public_key() const noexcept { return public_key_; }
  const NodeId& id() const noexcept { return id_; }

  /// Signs `message` as a statement of the kind `domain`: printable text that begins with
  /// "farmesh " and has at most 64 characters, such as "farmesh record v1".
  Signature sign(std::string_view domain, ByteView message) const;
  /// Signs just these bytes: for formats of others that tell their signatures apart themselves,
  /// such as BEP 44. They may not begin as a signature with a domain does.
  Signature sign_bare(ByteView message) const;

  /// For TLS; lives as long as this object or a copy of it.
  evp_pkey_st* native_handle() const noexcept { return key_.get(); }

 private:
  explicit NodeKey(std::shared_ptr<evp_pkey_st> key);

  std::shared_ptr<evp_pkey_st> key_;
  PublicKey public_key_{};
  NodeId id_{};
};

/// Whether `key` signed `message` under `domain`.
bool verify(const PublicKey& key, std::string_view domain, ByteView message,
            const Signature& signature);
bool verify_bare(const PublicKey& key, ByteView message, const Signature& signature);

}  // namespace farmesh::identity
