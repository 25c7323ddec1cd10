// A model that answers when the mesh cannot: the operator's own, or an OpenAI-compatible server.
//
// Takes a turn, tries the mesh, and gives the fallback's tokens where the mesh gave none: a layer
// that nobody holds, nodes that fail, no first token in time. Its tokens cost the user the same,
// and are the operator's in the ledger. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "gateway/model.hpp"
#include "http/client.hpp"

namespace farmesh::gateway {

struct FallbackOptions {
  std::chrono::milliseconds first_token{20'000};  // the mesh's time for it
};

/// `mesh`, and behind it `fallback`, whose weights must be the same where streams are to be
/// resumed.
class FallbackModel final : public Model {
 public:
  FallbackModel(std::shared_ptr<Model> mesh, std::shared_ptr<Model> fallback,
                FallbackOptions options)
      : mesh_(std::move(mesh)), fallback_(std::move(fallback)), options_(options) {}

  std::unique_ptr<TurnTokens> start(const TurnInput& input) override;
  /// The mesh's.
  ModelState state() const override { return mesh_->state(); }
  std::string node_id(const std::string& peer) const override { return mesh_->node_id(peer); }
  std::string token_bytes(TokenId id) const override { return mesh_->token_bytes(id); }
  void ask_receipts(const std::shared_ptr<driver::Bill>& bill) override {
    mesh_->ask_receipts(bill);
  }

 private:
  const std::shared_ptr<Model> mesh_, fallback_;
  const FallbackOptions options_;
};

struct UpstreamOptions {
  std::string url;    // "https://host/v1": what OpenAI's clients call the base URL
  std::string key;    // empty: none is sent
  std::string model;  // its name there
  http::ClientOptions client;
};

/// An OpenAI-compatible server as a model. Each piece of text that it streams counts as one token;
/// token ids as a prompt are not served, and what it streams cannot be resumed.
class UpstreamModel final : public Model {
 public:
  UpstreamModel(UpstreamOptions options, std::uint32_t num_layers);

  std::unique_ptr<TurnTokens> start(const TurnInput& input) override;
  ModelState state() const override { return {}; }
  std::string node_id(const std::string&) const override { return {}; }
  std::string token_bytes(TokenId) const override { return {}; }

 private:
  const UpstreamOptions options_;
  const std::uint32_t num_layers_;
  const std::shared_ptr<http::Client> client_;
};

}  // namespace farmesh::gateway
