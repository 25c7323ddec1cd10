// A model as this process has it: the stage it computes itself, the peers it knows, and the
// network thread that ties them together. Behind the public DistributedModel.
//
// Takes a folder and addresses, gives client/ a SharedModel to run sessions on.
// Threading: made, asked and destroyed on callers' threads, one at a time for open().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <farmesh/model.hpp>

#include "base/types.hpp"
#include "client/open_turns.hpp"
#include "client/shared_model.hpp"
#include "driver/peer_set.hpp"
#include "model/model_config.hpp"
#include "net/event.hpp"
#include "net/runtime.hpp"
#include "node/draft_stage.hpp"
#include "node/found_peers.hpp"
#include "node/mesh.hpp"
#include "node/own_identity.hpp"
#include "serve/peer.hpp"
#include "serve/worker.hpp"
#include "weights/model_source.hpp"

namespace farmesh::node {

class OpenModel {
 public:
  OpenModel(ModelOptions options, OwnIdentity self);
  ~OpenModel();
  OpenModel(const OpenModel&) = delete;
  OpenModel& operator=(const OpenModel&) = delete;

  /// Call once, first. Fails as DistributedModel::open().
  Result<void> open();

  const client::SharedModel& shared() const noexcept { return shared_; }
  ModelSummary summary();  // from any thread but the network's
  void ask_receipts(const std::shared_ptr<driver::Bill>& bill);  // so too

 private:
  Result<void> check_options() const;
  Result<void> open_weights();
  Result<void> open_draft();
  void make_peer_set();
  Result<void> join_mesh();
  net::Task<Result<void>> connect();
  net::Task<Result<void>> wait_for_peers();
  void use_found_peers();
  net::Task<void> keep_dialling(std::shared_ptr<net::Event> closing);
  void note_failures(const std::vector<std::pair<std::string, Error>>& failures);
  bool lacks_peers() const;
  Result<void> check_coverage() const;
  std::vector<PeerStatus> peer_status() const;

  const ModelOptions options_;
  const OwnIdentity self_;
  net::Runtime runtime_;
  std::shared_ptr<weights::ModelSource> source_;
  model::ModelConfig config_;
  std::optional<ModelHash> hash_;
  std::vector<std::pair<std::string, Error>> failures_;  // of connecting, the last of each

  // In the order of making; taken down the other way round, on the network thread.
  std::unique_ptr<DraftStage> draft_;        // only with a draft model
  std::unique_ptr<serve::Worker> worker_;    // none with a remote head
  std::unique_ptr<serve::Peer> local_peer_;  // only with `local`
  std::unique_ptr<driver::PeerSet> peers_;
  std::unique_ptr<client::OpenTurns> turns_;
  std::unique_ptr<Mesh> mesh_;         // where discovery is enabled
  FoundPeers addresses_;               // of peers, as given and as found
  std::shared_ptr<net::Event> found_;  // set when there are more of them
  std::shared_ptr<net::Event> closing_;
  client::SharedModel shared_;
};

}  // namespace farmesh::node
