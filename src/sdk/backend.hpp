// What is behind a FarMesh: a coordinator over HTTP, or the peers themselves.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <farmesh/far_mesh.hpp>

#include "client/process_guard.hpp"
#include "sdk/stream_state.hpp"

namespace farmesh::sdk {

/// A text to continue, or a conversation to answer.
struct Ask {
  std::variant<std::string, std::vector<ChatMessage>> prompt;
  AskOptions options;
};

/// One answer in the making.
class Turn {
 public:
  virtual ~Turn() = default;
  /// Tells `state` everything, its end included, on a thread of its own.
  virtual void run(StreamState& state) = 0;
  /// Makes run() return soon. From any thread.
  virtual void cancel() = 0;
};

/// Thread-safe.
class Backend {
 public:
  virtual ~Backend() = default;
  /// Sends nothing yet.
  virtual MeshResult<std::shared_ptr<Turn>> start(Ask ask) = 0;
  virtual MeshResult<std::vector<MeshModel>> models() = 0;
  virtual MeshResult<MeshStatus> status(const std::string& model) = 0;
  virtual MeshResult<MeshEarnings> earnings(const std::string& wallet) = 0;

  const client::ProcessGuard guard;
};

MeshError invalid_request(std::string message);

MeshResult<std::shared_ptr<Backend>> make_coordinator_backend(ConnectOptions options);
MeshResult<std::shared_ptr<Backend>> make_direct_backend(ModelOptions options);

}  // namespace farmesh::sdk
