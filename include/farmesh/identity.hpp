// Who a process is in the mesh, and which mesh that is.
//
// Every connection between nodes is encrypted, and both ends prove an Ed25519 key; a node's id is
// the SHA-256 of its public key. Keys and tokens are files that only their owner may read.
#pragma once

#include <string>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

struct IdentityOptions {
  /// A folder that keeps the node's key, made at its first start. Nodes on one machine may share
  /// it: each takes the first key that no other uses. Empty: a key that lives as long as the
  /// object.
  std::string data_dir;
  std::string key_file;         // this key instead, of this process alone; made if missing
  std::string join_token_file;  // enters a private mesh; empty: the open mesh
  std::string mesh_key_file;    // the private mesh's own key, in place of a token
};

}  // namespace farmesh::inline FARMESH_ABI
