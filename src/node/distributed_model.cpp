// The public DistributedModel: a handle on node::OpenModel that forked children leave alone.
#include <utility>

#include <farmesh/model.hpp>

#include "client/process_guard.hpp"
#include "client/session_factory.hpp"
#include "node/open_model.hpp"

namespace farmesh {

struct DistributedModel::Impl {
  client::ProcessGuard guard;
  std::shared_ptr<node::OpenModel> model;

  ~Impl() {
    // In a forked child the network thread is missing: its object is left to the process's end.
    if (guard.forked()) new std::shared_ptr<node::OpenModel>(std::move(model));
  }
};

DistributedModel::DistributedModel(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
DistributedModel::DistributedModel(DistributedModel&&) noexcept = default;
DistributedModel& DistributedModel::operator=(DistributedModel&&) noexcept = default;
DistributedModel::~DistributedModel() = default;

Result<DistributedModel> DistributedModel::open(ModelOptions options) {
  Result<node::OwnIdentity> self = node::own_identity(options.identity);
  if (!self) return self.error();
  auto model = std::make_shared<node::OpenModel>(std::move(options), *std::move(self));
  if (const Result<void> opened = model->open(); !opened) return opened.error();
  auto impl = std::make_shared<Impl>();
  impl->model = std::move(model);
  return DistributedModel(std::move(impl));
}

Result<Session> DistributedModel::open_session(const SessionOptions& options) const {
  if (const Result<void> usable = impl_->guard.check(); !usable) return usable.error();
  std::shared_ptr<const client::SharedModel> shared(impl_->model, &impl_->model->shared());
  return client::make_session(std::move(shared), options);
}

Result<HiddenSession> DistributedModel::open_hidden_session(const SessionOptions& options) const {
  if (const Result<void> usable = impl_->guard.check(); !usable) return usable.error();
  std::shared_ptr<const client::SharedModel> shared(impl_->model, &impl_->model->shared());
  return client::make_hidden_session(std::move(shared), options);
}

Result<Rows> DistributedModel::embed(const std::vector<TokenId>& ids) const {
  if (const Result<void> usable = impl_->guard.check(); !usable) return usable.error();
  return client::embed(impl_->model->shared(), ids);
}

Result<Rows> DistributedModel::logits(const Rows& hidden) const {
  if (const Result<void> usable = impl_->guard.check(); !usable) return usable.error();
  return client::logits(impl_->model->shared(), hidden);
}

Result<std::vector<TokenId>> DistributedModel::encode(std::string_view text,
                                                      bool add_special) const {
  text::EncodeOptions encoding;
  encoding.add_special = add_special;
  return impl_->model->shared().tokenizer->encode(text, encoding);
}

std::string DistributedModel::decode(const std::vector<TokenId>& ids) const {
  return text::decode(impl_->model->shared().tokenizer, ids);
}

std::string DistributedModel::token_bytes(TokenId id) const {
  return std::string(impl_->model->shared().tokenizer->token_bytes(id));
}

ModelSummary DistributedModel::info() const {
  if (impl_->guard.forked()) return {};
  return impl_->model->summary();
}

void DistributedModel::ask_receipts(const std::shared_ptr<driver::Bill>& bill) const {
  if (!impl_->guard.forked()) impl_->model->ask_receipts(bill);
}

}  // namespace farmesh
