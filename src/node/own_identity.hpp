// The key and the mesh of this process, from the files that its options name.
#pragma once

#include <filesystem>
#include <optional>

#include <farmesh/identity.hpp>
#include <farmesh/result.hpp>

#include "identity/join_token.hpp"
#include "identity/key_claim.hpp"

namespace farmesh::node {

struct OwnIdentity {
  identity::Credentials credentials;
  std::optional<identity::KeyClaim> claim;  // of the key's file, while this lives
};

/// Fails with config_invalid, which names the file, or io_error.
Result<OwnIdentity> own_identity(const IdentityOptions& options);

/// What the private mesh of a mesh key is called when its founder gives no name.
inline constexpr const char* kDefaultMeshName = "private";

/// FARMESH_DATA_DIR, else $XDG_DATA_HOME/farmesh, else ~/.local/share/farmesh; empty without a
/// home.
std::filesystem::path data_folder();

}  // namespace farmesh::node
