// What is known of the peers, for plans: told by themselves, by steps and by who found them.

#include <algorithm>

#include "driver/peer_set_impl.hpp"
#include "net/tcp_address.hpp"

namespace farmesh::driver {
namespace {

constexpr std::size_t kMaxLinks = 65'536;

}  // namespace

bool PeerSet::Impl::in_view(const Known& peer, bool any_class) const {
  if (peer.address.empty() || !peer.service || peer.service->span.empty()) return false;
  if (peer.other_class && !any_class) return false;
  return !peer.local || peer.connection != nullptr;
}

std::vector<route::PeerView> PeerSet::view(bool any_class) const {
  const TimePoint now = impl_->clock().now();
  const auto age = [now](TimePoint at) { return std::max(now - at, Duration::zero()); };
  std::vector<route::PeerView> views;
  for (const auto& peer : impl_->peers) {
    if (!impl_->in_view(*peer, any_class)) continue;
    route::PeerView view;
    view.address = peer->address;
    view.endpoint = peer->endpoint;
    view.span = peer->service->span;
    view.node_id = peer->node_id;
    view.numerics_class = peer->service->numerics_class;
    view.reachable_by_peers = !peer->local;
    view.relayed = peer->address.find(net::kCircuit) != std::string::npos;
    view.round_trip = peer->round_trip;
    view.round_trip_age = age(peer->round_trip_at);
    if (peer->round_trip == Duration::zero() && peer->connection) {  // as its hello measured
      view.round_trip = peer->connection->round_trip();
      view.round_trip_age = {};
    }
    view.layer_time = peer->layer_time;
    view.layer_time_age = age(peer->layer_time_at);
    view.layer_samples = peer->layer_samples;
    if (peer->claims) {
      view.place = peer->claims->place;
      view.relayed = view.relayed || peer->claims->relayed;
      view.claimed_layer_time = peer->claims->layer_time;
      view.queued_rows = peer->claims->queued_rows;
      view.free_tokens = peer->claims->free_tokens;
      view.load_age = age(peer->claims_at);
    }
    if (peer->load_at != TimePoint{}) {
      view.queued_rows = peer->load.queued_rows;
      view.free_tokens = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(std::uint64_t{peer->load.free_pages} * peer->service->page_tokens,
                                  route::kUnknownRoom - 1));
      view.load_age = age(peer->load_at);
    }
    view.banned = now < peer->banned_until;
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<route::LinkView> PeerSet::links(bool any_class) const {
  if (impl_->links.empty()) return {};
  std::unordered_map<std::string, std::uint32_t> indices;
  std::uint32_t index = 0;
  for (const auto& peer : impl_->peers) {
    if (impl_->in_view(*peer, any_class)) indices.emplace(peer->address, index++);
  }
  std::vector<route::LinkView> links;
  const TimePoint now = impl_->clock().now();
  for (const auto& [ends, link] : impl_->links) {
    const auto from = indices.find(ends.first);
    const auto to = indices.find(ends.second);
    if (from == indices.end() || to == indices.end()) continue;
    links.push_back({from->second, to->second, link.way, now - link.at});
  }
  return links;
}

void PeerSet::report_link(const std::string& from, const std::string& to, Duration round_trip) {
  if (impl_->links.size() >= kMaxLinks && !impl_->links.contains({from, to})) return;
  impl_->links[{from, to}] = {round_trip / 2, impl_->clock().now()};
}

void PeerSet::report_claims(const std::string& address, const PeerClaims& claims) {
  Known* peer = impl_->find(address);
  if (peer == nullptr || peer->local) return;
  peer->claims = claims;
  peer->claims_at = impl_->clock().now();
}

void PeerSet::refresh(Duration max_age) {
  const TimePoint now = impl_->clock().now();
  for (const auto& peer : impl_->peers) {
    if (!peer->connection || peer->refreshing || peer->service->span.empty()) continue;
    if (peer->load_at != TimePoint{} && now - peer->load_at <= max_age) continue;
    peer->refreshing = true;
    net::spawn(impl_->clock().executor(), "driver refresh", Impl::refresh(impl_, *peer));
  }
}

net::Task<void> PeerSet::Impl::refresh(std::shared_ptr<Impl> self, Known& peer) {
  const std::shared_ptr<net::Connection> connection = peer.connection;
  const TimePoint asked = self->clock().now();
  auto asking = connection->call(wire::Verb::ping, wire::encode(wire::Ping{}), {},
                                 asked + self->options.dial_timeout);
  const Result<wire::Frame> answer = co_await std::move(asking);
  peer.refreshing = false;
  if (self->closed || !answer) co_return;  // silence is for steps and keep-alive to judge
  const Result<wire::Pong> pong = wire::decode<wire::Pong>(answer->header);
  if (!pong) co_return connection->fail(pong.error());
  const TimePoint now = self->clock().now();
  peer.load = *pong;
  peer.load_at = now;
  const Duration sample = now - asked;
  peer.round_trip = peer.round_trip == Duration::zero()
                        ? sample
                        : peer.round_trip + (sample - peer.round_trip) / 8;
  peer.round_trip_at = now;
}

NodeId PeerSet::node_id(const std::string& address) const {
  for (const auto& peer : impl_->peers) {
    if (peer->address == address) return peer->node_id;
  }
  return {};
}

bool PeerSet::is_connected(const std::string& address) const {
  for (const auto& peer : impl_->peers) {
    if (peer->address == address) return peer->connection != nullptr;
  }
  return false;
}

std::vector<std::string> PeerSet::heads() const {
  const TimePoint now = impl_->clock().now();
  std::vector<const Known*> offering;
  for (const auto& peer : impl_->peers) {
    if (peer->connection && peer->service->head) offering.push_back(peer.get());
  }
  std::stable_sort(offering.begin(), offering.end(), [now](const Known* a, const Known* b) {
    const bool a_banned = now < a->banned_until;
    const bool b_banned = now < b->banned_until;
    if (a_banned != b_banned) return b_banned;
    return a->connection->round_trip() < b->connection->round_trip();
  });
  std::vector<std::string> addresses;
  for (const Known* peer : offering) addresses.push_back(peer->address);
  return addresses;
}

std::optional<wire::Service> PeerSet::service() const {
  for (const auto& peer : impl_->peers) {
    if (peer->connection) return peer->service;
  }
  return std::nullopt;
}

void PeerSet::report_success(const std::string& address, Span span, Duration hop_time,
                             std::uint32_t rows) {
  Known* peer = impl_->find(address);
  if (peer == nullptr || span.empty() || rows == 0) return;
  peer->failures = 0;
  peer->banned_until = {};
  if (rows > 1 && peer->single_rows) return;
  const Duration sample = hop_time / (span.size() * rows);
  if (peer->layer_time == Duration::zero() || (rows == 1 && !peer->single_rows)) {
    peer->layer_time = sample;
  } else {
    peer->layer_time += (sample - peer->layer_time) / 8;
  }
  peer->single_rows = rows == 1;
  peer->layer_time_at = impl_->clock().now();
  ++peer->layer_samples;
}

}  // namespace farmesh::driver
