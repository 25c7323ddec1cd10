// Whether a call is worth another try, and when.
#pragma once

#include <chrono>
#include <optional>

#include <farmesh/far_mesh.hpp>

namespace farmesh::sdk {

/// Of one call. Confined to one thread.
class Retries {
 public:
  explicit Retries(const ConnectOptions& options) : options_(options) {}

  /// How long to wait before the next try; nothing: it is not worth one.
  std::optional<std::chrono::milliseconds> after(const MeshError& error);
  /// Something came since the last failure: the count begins anew.
  void progressed() noexcept { failures_ = 0; }

 private:
  const ConnectOptions& options_;
  int failures_ = 0;
};

}  // namespace farmesh::sdk
