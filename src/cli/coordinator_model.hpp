// A DistributedModel behind the face that the gateway serves.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <farmesh/model.hpp>

#include "gateway/model.hpp"

namespace farmesh::cli {

class CoordinatorModel final : public gateway::Model {
 public:
  /// `options`: what `model` was opened with. `session`: how each of its sessions is.
  CoordinatorModel(DistributedModel model, const ModelOptions& options, SessionOptions session)
      : model_(std::move(model)),
        session_(session),
        local_(options.local),
        remote_head_(options.remote_head) {}

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput& input) override;
  gateway::ModelState state() const override { return {model_.info(), local_, remote_head_}; }
  std::string node_id(const std::string& peer) const override;
  std::string token_bytes(TokenId id) const override { return model_.token_bytes(id); }
  void ask_receipts(const std::shared_ptr<driver::Bill>& bill) override {
    model_.ask_receipts(bill);
  }

 private:
  const DistributedModel model_;
  const SessionOptions session_;
  const bool local_;
  const bool remote_head_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::string> node_ids_;  // by address; a peer keeps its key
};

}  // namespace farmesh::cli
