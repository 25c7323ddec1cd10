#include "client/turn_meter.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace farmesh::client {
namespace {

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

TurnMeter::TurnMeter(TimePoint began, std::uint32_t prompt_tokens) : began_(began) {
  usage_.prompt_tokens = prompt_tokens;
}

void TurnMeter::prompt_made(std::vector<RouteUsage> routes) {
  prompt_known_ = true;
  usage_.prompt_routes = std::move(routes);
}

void TurnMeter::record(const wire::TokenMessage& message, TimePoint now) {
  if (!message.route.empty()) take_route(message.route);
  usage_.numerics_changed = usage_.numerics_changed || message.numerics_changed;
  if (usage_.tokens == 0) first_ = now;
  last_ = now;
  ++usage_.tokens;
  if (usage_.routes.empty()) usage_.routes.emplace_back();
  ++usage_.routes.back().tokens;
  if (!std::exchange(prompt_known_, true) && usage_.prompt_tokens > 0) {
    usage_.prompt_routes.push_back({usage_.prompt_tokens, usage_.routes.back().hops});
  }

  // The first token's times are those of the prompt's last chunk: no measure for a token.
  if (usage_.tokens == 2) {
    for (Hop& hop : hops_) hop.microseconds = hop.tokens = 0;
  }
  for (std::size_t i = 0; i < std::min(hops_.size(), message.times.size()); ++i) {
    hops_[i].microseconds += message.times[i].queue_us + std::uint64_t{message.times[i].compute_us};
    ++hops_[i].tokens;
  }
}

void TurnMeter::take_route(const std::vector<wire::Hop>& route) {
  std::vector<Hop> hops;
  for (const wire::Hop& hop : route) {
    const auto same = std::find_if(hops_.begin(), hops_.end(), [&hop](const Hop& old) {
      return old.hop.address == hop.address && old.hop.span == hop.span;
    });
    hops.push_back(same == hops_.end() ? Hop{hop} : *same);
  }
  const bool same_route =
      hops.size() == hops_.size() &&
      std::equal(hops.begin(), hops.end(), hops_.begin(), [](const Hop& a, const Hop& b) {
        return a.hop.address == b.hop.address && a.hop.span == b.hop.span;
      });
  hops_ = std::move(hops);
  if (same_route && !usage_.routes.empty()) return;
  RouteUsage route_usage;
  for (const Hop& hop : hops_) route_usage.hops.push_back({hop.hop.address, hop.hop.span, 0});
  usage_.routes.push_back(std::move(route_usage));
}

void TurnMeter::finish(FinishReason reason, std::uint32_t recoveries) {
  usage_.finish = reason;
  usage_.recoveries = recoveries;
}

Usage TurnMeter::usage() const {
  Usage usage = usage_;
  if (usage.tokens > 0) usage.ttft_ms = milliseconds(first_ - began_);
  if (usage.tokens > 1 && last_ > first_) {
    usage.tokens_per_second = 1000.0 * (usage.tokens - 1) / milliseconds(last_ - first_);
  }
  for (const Hop& hop : hops_) {
    const double mean = hop.tokens == 0 ? 0 : 0.001 * double(hop.microseconds) / hop.tokens;
    usage.hops.push_back({hop.hop.address, hop.hop.span, mean});
  }
  return usage;
}

}  // namespace farmesh::client
