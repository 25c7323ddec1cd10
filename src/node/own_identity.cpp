#include "node/own_identity.hpp"

#include <chrono>
#include <cstdlib>
#include <utility>

namespace farmesh::node {
namespace {

// A holder of the mesh's key could make itself a new token at any time.
constexpr std::chrono::years kFoundersToken{100};

std::filesystem::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Result<std::optional<identity::KeyClaim>> claim_key(const IdentityOptions& options) {
  if (options.key_file.empty() && options.data_dir.empty()) {
    return std::optional<identity::KeyClaim>();
  }
  Result<identity::KeyClaim> claim = options.key_file.empty()
                                         ? identity::KeyClaim::in_folder(options.data_dir)
                                         : identity::KeyClaim::of_file(options.key_file);
  if (!claim) return claim.error();
  return std::optional(*std::move(claim));
}

Result<identity::JoinToken> token_of(const IdentityOptions& options) {
  if (options.mesh_key_file.empty()) return identity::JoinToken::load(options.join_token_file);
  const Result<identity::NodeKey> mesh = identity::NodeKey::load(options.mesh_key_file);
  if (!mesh) return mesh.error();
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return identity::JoinToken::make(*mesh, kDefaultMeshName, now + kFoundersToken);
}

}  // namespace

Result<OwnIdentity> own_identity(const IdentityOptions& options) {
  if (!options.join_token_file.empty() && !options.mesh_key_file.empty()) {
    return {Errc::config_invalid, "a join token and a mesh key at once: one of them is enough"};
  }
  Result<std::optional<identity::KeyClaim>> claim = claim_key(options);
  if (!claim) return claim.error();
  const identity::NodeKey key = *claim ? (*claim)->key() : identity::NodeKey::generate();
  std::shared_ptr<const identity::Membership> mesh;
  if (!options.join_token_file.empty() || !options.mesh_key_file.empty()) {
    const Result<identity::JoinToken> token = token_of(options);
    if (!token) return token.error();
    mesh = std::make_shared<identity::Membership>(*token, key.id());
  }
  return OwnIdentity{identity::Credentials(key, std::move(mesh)), *std::move(claim)};
}

std::filesystem::path data_folder() {
  if (const auto own = variable("FARMESH_DATA_DIR"); !own.empty()) return own;
  if (const auto xdg = variable("XDG_DATA_HOME"); !xdg.empty()) return xdg / "farmesh";
  if (const auto home = variable("HOME"); !home.empty()) {
    return home / ".local" / "share" / "farmesh";
  }
  return {};
}

}  // namespace farmesh::node
