#include "cli/coordinator_model.hpp"

#include <utility>
#include <variant>

namespace farmesh::cli {
namespace {

class StreamTokens final : public gateway::TurnTokens {
 public:
  explicit StreamTokens(TokenStream stream) : stream_(std::move(stream)) {}

  Result<std::optional<Token>> next() override { return stream_.next(); }
  void cancel() override { stream_.cancel(); }
  Usage usage() const override { return stream_.usage(); }

 private:
  TokenStream stream_;
};

class FailedTokens final : public gateway::TurnTokens {
 public:
  explicit FailedTokens(Error error) : error_(std::move(error)) {}

  Result<std::optional<Token>> next() override { return error_; }
  void cancel() override {}
  Usage usage() const override { return {}; }

 private:
  const Error error_;
};

}  // namespace

std::unique_ptr<gateway::TurnTokens> CoordinatorModel::start(const gateway::TurnInput& input) {
  Result<Session> session = model_.open_session(session_);
  if (!session) return std::make_unique<FailedTokens>(session.error());
  if (const auto* text = std::get_if<std::string>(&input.prompt)) {
    return std::make_unique<StreamTokens>(session->generate(*text, input.options));
  }
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&input.prompt)) {
    return std::make_unique<StreamTokens>(session->generate_ids(*ids, input.options));
  }
  if (!model_.info().has_chat_template) {
    return std::make_unique<FailedTokens>(
        Error{Errc::template_unsupported, "this model has no chat template"});
  }
  const auto& messages = std::get<std::vector<ChatMessage>>(input.prompt);
  return std::make_unique<StreamTokens>(session->chat(messages, input.options));
}

std::string CoordinatorModel::node_id(const std::string& peer) const {
  if (peer == "local") return {};
  const std::lock_guard lock(mutex_);
  const auto known = node_ids_.find(peer);
  if (known != node_ids_.end()) return known->second;
  for (const PeerStatus& status : model_.info().peers) {
    if (!status.node_id.empty()) node_ids_[status.address] = status.node_id;
  }
  return node_ids_[peer];
}

}  // namespace farmesh::cli
