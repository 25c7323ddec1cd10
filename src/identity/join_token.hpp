// Private meshes: tokens that let a node in, and how a node shows that it has one.
//
// A mesh is an Ed25519 key. Whoever holds it makes tokens; a token is an invitation, signed by the
// mesh, to whoever holds a second key that is in the token too. That second key never travels: a
// node signs its own id with it, and what results, the pass, is of use to no other node.
// Values; const calls are safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "identity/node_key.hpp"

namespace farmesh::identity {

inline constexpr std::size_t kMaxMeshName = 64;
inline constexpr std::size_t kMaxPassBytes = 512;
inline constexpr std::chrono::seconds kClockTolerance{60};  // between the clocks of two nodes

/// What a mesh has signed. The bytes are docs/wire-protocol.md's, "Joining a private mesh".
struct Invitation {
  PublicKey mesh{};
  std::chrono::sys_seconds expires{};
  PublicKey holder{};
  std::string mesh_name;  // printable, for people
  Signature signature{};
};

class JoinToken {
 public:
  /// A new invitation. Fails with invalid_argument when the name is empty, longer than
  /// kMaxMeshName or not printable.
  static Result<JoinToken> make(const NodeKey& mesh_key, std::string mesh_name,
                                std::chrono::sys_seconds expires);
  /// Reads to_text()'s form. Fails with config_invalid when it is no token, or was changed.
  static Result<JoinToken> parse(std::string_view text);
  /// From a file that only its owner may read. Fails as read_secret_file() and parse() do.
  static Result<JoinToken> load(const std::filesystem::path& file);

  std::string to_text() const;  // secret
  const Invitation& invitation() const noexcept { return invitation_; }

  /// What `node` shows to others to be let in.
  std::vector<std::uint8_t> pass_for(const NodeId& node) const;

 private:
  JoinToken(Invitation invitation, std::span<const std::uint8_t, 32> seed);

  Invitation invitation_;
  std::array<std::uint8_t, 32> seed_{};
  NodeKey holder_;
};

/// This process as a member of a private mesh.
class Membership {
 public:
  Membership(const JoinToken& token, const NodeId& self);

  const std::vector<std::uint8_t>& pass() const noexcept { return pass_; }
  const std::string& mesh_name() const noexcept { return invitation_.mesh_name; }

  /// Whether `pass` lets the node `remote` in. Fails with join_refused, which says why.
  Result<void> admit(std::span<const std::uint8_t> pass, const NodeId& remote,
                     std::chrono::sys_seconds now) const;

 private:
  Invitation invitation_;  // this node's own
  std::vector<std::uint8_t> pass_;
};

/// Who a process is to others.
struct Credentials {
  Credentials(NodeKey k, std::shared_ptr<const Membership> m = nullptr)  // NOLINT: implicit
      : key(std::move(k)), mesh(std::move(m)) {}
  NodeKey key;
  std::shared_ptr<const Membership> mesh;  // null: the open mesh
};

}  // namespace farmesh::identity
