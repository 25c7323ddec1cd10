// What stands behind the public Peer: a stage behind a listening address, its place in the mesh,
// and the generation loop for clients without a head where one is hosted. In two files:
// serving_node.cpp (serving) and serving_node_life.cpp (choosing layers, and moving to others).
//
// Threading: the calls are thread-safe; what is made here lives on the network thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <farmesh/peer.hpp>

#include "base/digest.hpp"
#include "discovery/record.hpp"
#include "net/runtime.hpp"
#include "node/capacity.hpp"
#include "node/doorway.hpp"
#include "node/found_peers.hpp"
#include "node/generate_service.hpp"
#include "node/life.hpp"
#include "node/mesh.hpp"
#include "node/own_identity.hpp"
#include "node/span_choice.hpp"
#include "node/stage.hpp"
#include "serve/peer.hpp"
#include "weights/model_source.hpp"

namespace farmesh::node {

class ServingNode {
 public:
  ServingNode(PeerOptions options, OwnIdentity self);
  ~ServingNode() { stop(std::chrono::milliseconds(0)); }
  ServingNode(const ServingNode&) = delete;
  ServingNode& operator=(const ServingNode&) = delete;

  Result<void> start();
  void stop(std::chrono::milliseconds drain);
  void wait();
  PeerStats stats();
  Span layers();
  Result<void> carry_wallet_statement(std::string text);

  const std::string& address() const noexcept { return address_; }
  const std::string& node_id() const noexcept { return node_id_; }
  const std::string& public_key() const noexcept { return public_key_; }
  const identity::NodeKey& key() const noexcept { return self_.credentials.key; }
  const std::string& model_id() const noexcept { return model_id_; }
  const std::string& numerics_class() const noexcept { return numerics_class_; }
  const std::string& model_hash() const noexcept { return model_hash_; }
  std::uint32_t num_layers() const noexcept { return stage_.config.num_layers; }

 private:
  // serving_node.cpp
  Result<void> open(Span layers);
  Result<void> listen();
  void measure(Stage& stage);
  Result<void> join_mesh();
  void publish();
  void open_doorway();
  void leave_mesh();
  void close(std::chrono::milliseconds drain);
  discovery::NodeRecord describe();
  void use_found_peers();
  std::string own_way() const;
  void tell_head_own_way();
  std::unique_ptr<GenerateService> make_service();

  // serving_node_life.cpp
  Result<void> start_where_needed();
  void await_first_view();
  Result<void> measure_room();
  Result<void> open_what_fits();
  void begin_life();
  MeshCoverage coverage();
  SpanSeeker seeker();
  std::optional<SpanMove> look();
  void move(const SpanMove& move);
  bool give_up(const SpanMove& move, Span held);
  bool stops_within(std::chrono::milliseconds time);

  const PeerOptions options_;
  const OwnIdentity self_;
  mutable net::Runtime runtime_;
  const std::string node_id_;
  const std::string model_id_;
  const std::string public_key_;
  std::shared_ptr<weights::ModelSource> source_;
  Stage stage_;  // shape and hash stay, the rest is of the layers at hand
  Span span_;    // on the network thread; empty while nothing is served
  std::unique_ptr<GenerateService> service_;
  std::unique_ptr<serve::Peer> peer_;
  std::unique_ptr<Mesh> mesh_;  // where discovery is enabled
  std::unique_ptr<Doorway> doorway_;
  FoundPeers found_{{}, wire::kMaxPeers};  // that the head was told of
  std::string wallet_statement_;
  std::string address_;
  std::string numerics_class_;
  std::string model_hash_;

  // Of a node that chooses its layers.
  std::optional<Precision> precision_;
  Capacity room_;
  Duration load_time_{};            // of the layers at hand
  std::uint64_t view_version_ = 0;  // under mutex_
  std::unique_ptr<Life> life_;      // on the network thread, which nudges it

  std::mutex mutex_;
  std::condition_variable changed_;
  enum class State { running, stopping, stopped } state_ = State::running;
};

}  // namespace farmesh::node
