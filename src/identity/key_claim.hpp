// A node key that one process uses at a time: two nodes must never go by one id.
#pragma once

#include <filesystem>
#include <memory>

#include <farmesh/result.hpp>

#include "identity/node_key.hpp"

namespace farmesh::identity {

inline constexpr int kMaxNodesInFolder = 64;  // of one folder, at once

/// Held until destroyed; movable.
class KeyClaim {
 public:
  /// Loads the key of a file, making it if need be. Fails as NodeKey::load_or_create() does, or
  /// with config_invalid when a living process holds it.
  static Result<KeyClaim> of_file(const std::filesystem::path& file);
  /// The first key of a folder that no living process holds: node.key, then node-2.key, and so
  /// on, so that nodes on one machine keep their ids from start to start.
  static Result<KeyClaim> in_folder(const std::filesystem::path& folder);

  const NodeKey& key() const noexcept { return key_; }
  const std::filesystem::path& file() const noexcept { return file_; }

 private:
  KeyClaim(NodeKey key, std::filesystem::path file, std::shared_ptr<void> lock)
      : key_(std::move(key)), file_(std::move(file)), lock_(std::move(lock)) {}

  NodeKey key_;
  std::filesystem::path file_;
  std::shared_ptr<void> lock_;
};

}  // namespace farmesh::identity
