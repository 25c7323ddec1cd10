// Which peers a session may use, and the routes over them.

#include <algorithm>

#include "driver/chain_impl.hpp"

namespace farmesh::driver {
namespace {

constexpr int kTriesPerRepair = 2;           // of one peer; then it is left out
constexpr std::chrono::seconds kGrudge{60};  // how long a failure counts against a peer

// This process's own stage is nobody's node.
void choose_among(std::vector<route::PeerView>& views, const NodeChoice& choice) {
  const auto is_other = [&choice](const route::PeerView& view) {
    return view.reachable_by_peers && !choice.contains(view.node_id);
  };
  if (!choice.others_too) {
    std::erase_if(views, is_other);
    return;
  }
  for (route::PeerView& view : views) view.banned = view.banned || is_other(view);
}

}  // namespace

/// Peers as this session sees them.
std::vector<route::PeerView> Chain::Impl::candidates() const {
  std::vector<route::PeerView> views = peers.view(any_class);
  std::erase_if(views, [this](const route::PeerView& view) {
    const auto standing = standings.find(view.address);
    return standing != standings.end() &&
           (standing->second.useless || standing->second.tries >= kTriesPerRepair ||
            standing->second.faults >= kMaxFaults);
  });
  if (options.nodes) choose_among(views, *options.nodes);
  for (route::PeerView& view : views) {
    const auto standing = standings.find(view.address);
    if (standing == standings.end()) continue;
    const bool lately = now() < standing->second.when + kGrudge;
    view.banned = view.banned || lately;
  }
  return views;
}

/// The living hops, and between them new ones for the layers that lack one.
Result<std::vector<std::shared_ptr<Hop>>> Chain::Impl::planned() const {
  std::vector<route::PeerView> free = candidates();
  const auto take = [&free](const std::string& address) {
    std::erase_if(free, [&](const route::PeerView& view) { return view.address == address; });
  };
  for (const auto& hop : hops) take(hop->address);

  std::vector<std::shared_ptr<Hop>> route;
  std::uint32_t layer = 0;
  const auto fill_until = [&](std::uint32_t end) -> Result<void> {
    std::vector<route::PeerView> fitting = free;
    if (layer > 0) {
      std::erase_if(fitting, [](const route::PeerView& view) { return !view.reachable_by_peers; });
    }
    const Result<route::Route> part = plan_part(std::move(fitting), {layer, end});
    if (!part) return part.error();
    for (const wire::Hop& hop : *part) {
      take(hop.address);
      route.push_back(new_hop(hop.address, hop.span));
    }
    return {};
  };
  for (const auto& hop : hops) {
    const Result<void> filled = fill_until(hop->span.begin);
    if (!filled) return filled.error();
    route.push_back(hop);
    layer = hop->span.end;
  }
  const Result<void> filled = fill_until(options.num_layers);
  if (!filled) return filled.error();
  return route;
}

/// A route over all peers, for when a hop in use holds the missing layers as well: a peer has
/// one span in a session, so it must be opened again with another one.
Result<std::vector<std::shared_ptr<Hop>>> Chain::Impl::planned_anew() const {
  const Result<route::Route> plan = plan_part(candidates(), {0, options.num_layers});
  if (!plan) return plan.error();
  std::vector<std::shared_ptr<Hop>> route;
  for (const wire::Hop& wanted : *plan) {
    const auto same = std::find_if(hops.begin(), hops.end(), [&](const auto& hop) {
      return hop->address == wanted.address && hop->span == wanted.span;
    });
    if (same != hops.end()) {
      route.push_back(*same);
      continue;
    }
    route.push_back(new_hop(wanted.address, wanted.span));
  }
  return route;
}

std::shared_ptr<Hop> Chain::Impl::new_hop(const std::string& address, Span span) const {
  const auto hop = std::make_shared<Hop>(
      PatienceOptions{options.first_patience, options.min_patience, options.patience_factor});
  hop->address = address;
  hop->span = span;
  return hop;
}

/// The best peers for some layers, of the session's numerics class while anybody else would do.
Result<route::Route> Chain::Impl::plan_part(std::vector<route::PeerView> views, Span layers) const {
  route::Policy policy = options.policy;
  policy.numerics_class = numerics_class;
  policy.session_tokens = options.max_positions;
  std::vector<route::LinkView> links;
  const std::vector<route::PeerView> all = peers.view(any_class);
  for (route::LinkView link : peers.links(any_class)) {
    const auto index_of = [&](std::uint32_t index) {
      const auto at = std::find_if(views.begin(), views.end(), [&](const route::PeerView& view) {
        return view.address == all[index].address;
      });
      return static_cast<std::uint32_t>(at - views.begin());
    };
    link.from = index_of(link.from);
    link.to = index_of(link.to);
    if (link.from < views.size() && link.to < views.size()) links.push_back(link);
  }
  Result<route::Route> route = route::plan(views, layers, policy, links);
  if (!route && route.error().code == Errc::no_cache_space) {
    policy.session_tokens = 0;  // what they said of their room may be old: they are asked
    route = route::plan(views, layers, policy, links);
  }
  if (!route && any_class) {
    policy.numerics_class.clear();
    route = route::plan(views, layers, policy, links);
  }
  return route;
}

}  // namespace farmesh::driver
