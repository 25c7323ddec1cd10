// The public Peer: a ServingNode, and care for what fork() does to it.
#include <utility>

#include <farmesh/peer.hpp>

#include "base/digest.hpp"
#include "client/process_guard.hpp"
#include "node/own_identity.hpp"
#include "node/serving_node.hpp"

namespace farmesh {

struct Peer::Impl {
  client::ProcessGuard guard;
  std::unique_ptr<node::ServingNode> node;

  ~Impl() {
    // In a forked child the threads are missing: the object is left to the process's end.
    if (guard.forked()) (void)node.release();
  }
};

Peer::Peer(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Peer::Peer(Peer&&) noexcept = default;
Peer& Peer::operator=(Peer&&) noexcept = default;
Peer::~Peer() = default;

Result<Peer> Peer::start(PeerOptions options) {
  Result<node::OwnIdentity> self = node::own_identity(options.identity);
  if (!self) return self.error();
  auto impl = std::make_unique<Impl>();
  impl->node = std::make_unique<node::ServingNode>(std::move(options), *std::move(self));
  if (const Result<void> started = impl->node->start(); !started) return started.error();
  return Peer(std::move(impl));
}

const std::string& Peer::address() const noexcept { return impl_->node->address(); }
Span Peer::layers() const { return impl_->guard.forked() ? Span() : impl_->node->layers(); }
const std::string& Peer::node_id() const noexcept { return impl_->node->node_id(); }
const std::string& Peer::public_key() const noexcept { return impl_->node->public_key(); }
std::uint32_t Peer::num_layers() const noexcept { return impl_->node->num_layers(); }
const std::string& Peer::model_id() const noexcept { return impl_->node->model_id(); }
const std::string& Peer::numerics_class() const noexcept { return impl_->node->numerics_class(); }
const std::string& Peer::model_hash() const noexcept { return impl_->node->model_hash(); }

void Peer::wait() {
  if (!impl_->guard.forked()) impl_->node->wait();
}

void Peer::stop(std::chrono::milliseconds drain) {
  if (!impl_->guard.forked()) impl_->node->stop(drain);
}

PeerStats Peer::stats() const {
  if (impl_->guard.forked()) return {};
  return impl_->node->stats();
}

Result<void> Peer::carry_wallet_statement(std::string text) {
  if (impl_->guard.forked()) return {Errc::unsupported, "not after fork()"};
  return impl_->node->carry_wallet_statement(std::move(text));
}

Result<std::string> Peer::sign(std::string_view domain, std::string_view message) const {
  if (!identity::is_domain(domain)) {
    return {Errc::invalid_argument, "a domain begins with \"farmesh \" and has 64 characters"};
  }
  return to_hex(impl_->node->key().sign(domain, as_view(message)));
}

}  // namespace farmesh
