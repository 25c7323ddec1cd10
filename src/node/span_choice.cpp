#include "node/span_choice.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/assert.hpp"

namespace farmesh::node {
namespace {

// A move must be worth this much more than staying, for that nobody moves for nothing.
constexpr double kWorthMoving = 0.25;
// Speeds are told apart by factors of two, for measured times waver and nobody should move for
// that; and by four at most from the median, so that who boasts gets no layer to himself.
constexpr double kMostTrusted = 2;  // such factors

std::vector<std::uint32_t> counts_of(const MeshCoverage& mesh) {
  std::vector<std::uint32_t> counts(mesh.num_layers);
  for (const SpanHolder& one : mesh.others) {
    for (std::uint32_t layer = one.span.begin; layer < std::min(one.span.end, mesh.num_layers);
         ++layer) {
      ++counts[layer];
    }
  }
  return counts;
}

/// Relative speeds: 1 is the median node's for one layer.
class Speeds {
 public:
  Speeds(const MeshCoverage& mesh, const SpanHolder& self) {
    std::vector<std::uint32_t> measured;
    const auto note = [&measured](const SpanHolder& one) {
      if (one.layer_us > 0) measured.push_back(one.layer_us);
    };
    for (const SpanHolder& one : mesh.others) note(one);
    note(self);
    if (measured.empty()) return;
    const auto middle = measured.begin() + static_cast<std::ptrdiff_t>(measured.size() / 2);
    std::nth_element(measured.begin(), middle, measured.end());
    median_us_ = *middle;
  }

  /// Rows a time that a node of `layers` layers gives each of them.
  double rate(const SpanHolder& node, std::uint32_t layers) const {
    const double speed = node.layer_us == 0 || median_us_ == 0 ? 1.0 : median_us_ / node.layer_us;
    const double steps = std::clamp(std::round(std::log2(speed)), -kMostTrusted, kMostTrusted);
    return std::exp2(steps) / std::max(layers, 1u);
  }

 private:
  double median_us_ = 0;
};

std::vector<double> rates_of(const MeshCoverage& mesh, const Speeds& speeds) {
  std::vector<double> rates(mesh.num_layers);
  for (const SpanHolder& one : mesh.others) {
    const double rate = speeds.rate(one, one.span.size());
    for (std::uint32_t layer = one.span.begin; layer < std::min(one.span.end, mesh.num_layers);
         ++layer) {
      rates[layer] += rate;
    }
  }
  return rates;
}

/// What a node of `rate` is worth at `span`, beside others. Layers that nobody else serves are not
/// in the sum: they are counted before it.
double worth_at(const std::vector<std::uint32_t>& counts, const std::vector<double>& rates,
                Span span, double rate) {
  double worth = 0;
  for (std::uint32_t layer = span.begin; layer < span.end; ++layer) {
    if (counts[layer] > 0) worth += 1 / rates[layer] - 1 / (rates[layer] + rate);
  }
  return worth;
}

/// How far the mesh is from having every layer: smaller is better, and nothing is left to do when
/// either is 0.
struct Gap {
  std::uint64_t holes = 0;
  std::uint64_t way = 0;  // of all spares, each to the hole next to it
  friend auto operator<=>(const Gap&, const Gap&) = default;
};

Gap gap_of(const std::vector<std::uint32_t>& counts) {
  const auto layers = static_cast<std::uint32_t>(counts.size());
  Gap gap;
  gap.holes = static_cast<std::uint64_t>(std::count(counts.begin(), counts.end(), 0u));
  if (gap.holes == 0) return gap;
  std::vector<std::uint32_t> distance(layers, layers);
  const auto sweep = [&](std::uint32_t layer, std::uint32_t& from_hole) {
    from_hole = counts[layer] == 0 ? 0 : std::min(from_hole + 1, layers);
    distance[layer] = std::min(distance[layer], from_hole);
  };
  for (std::uint32_t layer = 0, from_hole = layers; layer < layers; ++layer) {
    sweep(layer, from_hole);
  }
  for (std::uint32_t layer = layers, from_hole = layers; layer-- > 0;) sweep(layer, from_hole);
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    if (counts[layer] > 1) gap.way += std::uint64_t{counts[layer] - 1} * distance[layer];
  }
  return gap;
}

/// `counts` with one more, or one fewer, in `span` while this lives.
class With {
 public:
  With(std::vector<std::uint32_t>& counts, Span span, int more)
      : counts_(counts), span_(span), more_(more) {
    add(more_);
  }
  ~With() { add(-more_); }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  void add(int more) {
    for (std::uint32_t layer = span_.begin; layer < span_.end; ++layer) {
      counts_[layer] += static_cast<std::uint32_t>(more);
    }
  }
  std::vector<std::uint32_t>& counts_;
  const Span span_;
  const int more_;
};

struct Place {
  Span span;
  Gap gap;
  double worth = 0;
  /// Nearly equal sums are equal: the order in which they were added must not decide.
  bool beats(const Place& other) const {
    if (gap != other.gap) return gap < other.gap;
    return worth > other.worth * (1 + 1e-9);
  }
};

/// The first of the best places for `layers` layers; `counts` and `rates` are without the node.
Place best_place(std::vector<std::uint32_t>& counts, const std::vector<double>& rates,
                 std::uint32_t layers, double rate) {
  Place best;
  for (std::uint32_t begin = 0; begin + layers <= counts.size(); ++begin) {
    Place place{{begin, begin + layers}, {}, 0};
    place.worth = worth_at(counts, rates, place.span, rate);
    const With here(counts, place.span, 1);
    place.gap = gap_of(counts);
    if (begin == 0 || place.beats(best)) best = place;
  }
  return best;
}

/// What a move brings: bigger is better.
struct Gain {
  std::uint64_t holes = 0;
  std::uint64_t way = 0;
  double worth = 0;
  bool beats(const Gain& other) const {
    if (holes != other.holes) return holes > other.holes;
    if (holes > 0 || way != other.way) return way > other.way;
    return worth > other.worth * (1 + 1e-9);
  }
};

struct Found {
  Span span;
  Gain gain;
};

/// The mesh with every node in it, and what it would be with one of them elsewhere.
class Moves {
 public:
  Moves(const MeshCoverage& all, const Speeds& speeds, double moving_cost)
      : counts_(counts_of(all)),
        rates_(rates_of(all, speeds)),
        speeds_(speeds),
        gap_(gap_of(counts_)),
        moving_cost_(moving_cost) {}

  bool has_holes() const noexcept { return gap_.holes > 0; }

  /// The first of the best moves for a node that shall end with `layers` layers.
  std::optional<Found> best_for(const SpanHolder& node, std::uint32_t layers) {
    const double rate = speeds_.rate(node, node.span.size());
    const With gone(counts_, node.span, -1);
    for (std::uint32_t layer = node.span.begin; layer < node.span.end; ++layer) {
      rates_[layer] -= rate;
    }
    std::optional<Found> best;
    for (std::uint32_t begin = 0; begin + layers <= counts_.size(); ++begin) {
      const Span there{begin, begin + layers};
      if (there == node.span || leaves_a_hole(node.span, there)) continue;
      const std::optional<Gain> gain = gain_of(node, there);
      if (gain && (!best || gain->beats(best->gain))) best = Found{there, *gain};
    }
    for (std::uint32_t layer = node.span.begin; layer < node.span.end; ++layer) {
      rates_[layer] += rate;
    }
    return best;
  }

 private:
  bool leaves_a_hole(Span held, Span there) const {
    for (std::uint32_t layer = held.begin; layer < held.end; ++layer) {
      if (!there.contains({layer, layer + 1}) && counts_[layer] == 0) return true;
    }
    return false;
  }

  /// Of a node that is taken out of the figures at hand; nothing when it had better stay.
  std::optional<Gain> gain_of(const SpanHolder& node, Span there) {
    Gain gain;
    if (has_holes()) {
      const With here(counts_, there, 1);
      const Gap then = gap_of(counts_);
      if (then >= gap_) return std::nullopt;
      gain.holes = gap_.holes - then.holes;
      gain.way = gain.holes > 0 ? 0 : gap_.way - then.way;
      return gain;
    }
    const double rate_here = speeds_.rate(node, node.span.size());
    const double rate_there = speeds_.rate(node, there.size());
    const double staying = worth_at(counts_, rates_, node.span, rate_here);
    const double moving = worth_at(counts_, rates_, there, rate_there);
    const double needed = staying * (1 + kWorthMoving + moving_cost_);
    if (moving <= needed) return std::nullopt;
    gain.worth = moving / std::max(needed, 1e-12);
    return gain;
  }

  std::vector<std::uint32_t> counts_;
  std::vector<double> rates_;
  const Speeds& speeds_;
  const Gap gap_;
  const double moving_cost_;
};

}  // namespace

std::string_view name(MoveReason reason) noexcept {
  switch (reason) {
    case MoveReason::closes_hole: return "nobody serves them";
    case MoveReason::towards_hole: return "so that a neighbour can close a hole";
    case MoveReason::balance: return "they are served worse";
  }
  return "?";
}

Span first_span(const MeshCoverage& mesh, const SpanSeeker& node) {
  const std::uint32_t layers = std::min(node.capacity, mesh.num_layers);
  if (layers == 0) return {};
  const Speeds speeds(mesh, node.self);
  std::vector<std::uint32_t> counts = counts_of(mesh);
  const std::vector<double> rates = rates_of(mesh, speeds);
  return best_place(counts, rates, layers, speeds.rate(node.self, layers)).span;
}

std::optional<SpanMove> worthwhile_move(const MeshCoverage& mesh, const SpanSeeker& node) {
  const std::uint32_t layers = std::min(node.capacity, mesh.num_layers);
  if (layers == 0 || node.self.span.empty()) return std::nullopt;
  FARMESH_ASSERT(node.self.span.end <= mesh.num_layers);

  MeshCoverage all = mesh;
  all.others.push_back(node.self);
  const Speeds speeds(all, {});
  Moves moves(all, speeds, node.moving_cost);
  const std::optional<Found> own = moves.best_for(node.self, layers);
  if (!own) return std::nullopt;

  SpanMove move{own->span};
  move.reason = own->gain.holes > 0 ? MoveReason::closes_hole
                : own->gain.way > 0 ? MoveReason::towards_hole
                                    : MoveReason::balance;
  // Nodes of equal span and speed have the same move; to close a hole speed does not matter.
  std::map<std::tuple<std::uint32_t, std::uint32_t, double>, std::optional<Found>> known;
  for (const SpanHolder& one : mesh.others) {
    if (one.span.empty() || one.span.end > mesh.num_layers) continue;
    const double rate = moves.has_holes() ? 0 : speeds.rate(one, one.span.size());
    const auto [entry, fresh] = known.try_emplace({one.span.begin, one.span.end, rate});
    if (fresh) entry->second = moves.best_for(one, one.span.size());
    const std::optional<Found>& theirs = entry->second;
    if (!theirs) continue;
    const bool as_good = !own->gain.beats(theirs->gain);
    if (theirs->gain.beats(own->gain) || (as_good && one.id < node.self.id)) ++move.turn;
  }
  return move;
}

bool may_leave(const MeshCoverage& mesh, Span held, Span there) {
  const std::vector<std::uint32_t> counts = counts_of(mesh);
  for (std::uint32_t layer = held.begin; layer < held.end; ++layer) {
    if (there.contains({layer, layer + 1})) continue;
    if (layer >= counts.size() || counts[layer] == 0) return false;
  }
  return true;
}

std::uint32_t uncovered_layers(const MeshCoverage& mesh) {
  const std::vector<std::uint32_t> counts = counts_of(mesh);
  return static_cast<std::uint32_t>(std::count(counts.begin(), counts.end(), 0u));
}

}  // namespace farmesh::node
