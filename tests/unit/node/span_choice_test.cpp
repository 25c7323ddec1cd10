#include "node/span_choice.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace farmesh::node {
namespace {

NodeId id_of(std::size_t number) {
  NodeId id{};
  id[0] = static_cast<std::uint8_t>(number >> 8);
  id[1] = static_cast<std::uint8_t>(number);
  id[31] = 1;
  return id;
}

/// A mesh in which every node always knows every other.
struct Mesh {
  std::uint32_t num_layers;
  std::vector<SpanHolder> nodes{};
  std::size_t joined = 0;

  MeshCoverage without(std::size_t index) const {
    MeshCoverage coverage{num_layers, {}};
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (i != index) coverage.others.push_back(nodes[i]);
    }
    return coverage;
  }
  MeshCoverage all() const { return without(nodes.size()); }

  void join(std::uint32_t capacity, std::uint32_t layer_us = 0) {
    SpanHolder node{id_of(++joined), {}, layer_us};
    node.span = first_span(all(), {node, capacity});
    nodes.push_back(node);
  }

  std::optional<SpanMove> move_of(std::size_t index, double cost = 0) const {
    return worthwhile_move(without(index), {nodes[index], nodes[index].span.size(), cost});
  }

  std::vector<std::uint32_t> counts() const {
    std::vector<std::uint32_t> counts(num_layers);
    for (const SpanHolder& node : nodes) {
      for (std::uint32_t layer = node.span.begin; layer < node.span.end; ++layer) ++counts[layer];
    }
    return counts;
  }
  std::uint32_t least() const {
    const auto all = counts();
    return *std::min_element(all.begin(), all.end());
  }
  std::uint32_t most() const {
    const auto all = counts();
    return *std::max_element(all.begin(), all.end());
  }

  /// Lets whoever's turn it is move, until nobody wants to: the number of moves. Holds every move
  /// to what moves promise.
  std::size_t settle() {
    for (std::size_t moves = 0;; ++moves) {
      REQUIRE(moves <= nodes.size() * num_layers * 4);  // else they run in circles
      std::optional<std::size_t> mover;
      std::size_t wishes = 0;
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        const auto move = move_of(i);
        if (!move) continue;
        ++wishes;
        if (move->turn > 0) continue;
        REQUIRE_FALSE(mover);  // one at a time, where all know the same
        mover = i;
      }
      REQUIRE(mover.has_value() == (wishes > 0));
      if (!mover) return moves;
      const auto before = counts();
      nodes[*mover].span = move_of(*mover)->span;
      const auto after = counts();
      for (std::uint32_t layer = 0; layer < num_layers; ++layer) {
        CAPTURE(layer);
        REQUIRE((before[layer] == 0 || after[layer] > 0));
      }
    }
  }
};

}  // namespace

TEST_SUITE("node/span_choice") {
  TEST_CASE("a node takes as many layers as it can hold, those that nobody serves first") {
    Mesh mesh{6};
    mesh.join(4);
    CHECK(mesh.nodes[0].span == Span{0, 4});
    mesh.join(4);
    CHECK(mesh.nodes[1].span == Span{2, 6});
    mesh.join(3);  // all are covered, 2 and 3 twice
    CHECK(mesh.nodes[2].span == Span{0, 3});
    mesh.join(100);
    CHECK(mesh.nodes[3].span == Span{0, 6});
    CHECK(first_span(mesh.all(), {{}, 0}).empty());
    CHECK(first_span({}, {{}, 4}).empty());
  }

  TEST_CASE("where every node can hold the whole model, every node does, and none moves") {
    Mesh mesh{6};
    for (int i = 0; i < 3; ++i) mesh.join(6);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(mesh.nodes[i].span == Span{0, 6});
      CHECK_FALSE(mesh.move_of(i));
    }
  }

  TEST_CASE("nodes that join one after another settle evenly") {
    for (const std::uint32_t layers : {6u, 8u, 12u, 32u, 80u}) {
      for (const std::uint32_t capacity : {2u, 3u, 5u, 11u}) {
        if (capacity > layers) continue;
        Mesh mesh{layers};
        for (std::size_t nodes = 1; nodes <= 40; ++nodes) {
          CAPTURE(layers);
          CAPTURE(capacity);
          CAPTURE(nodes);
          mesh.join(capacity);
          mesh.settle();
          // Layers 0, capacity, 2 capacity … each need nodes of their own, so that no choice at
          // all gives every layer more than this.
          const std::size_t best = nodes / ((layers + capacity - 1) / capacity);
          CHECK(mesh.least() + (best > 1 ? 1 : 0) >= best);
        }
      }
    }
  }

  TEST_CASE("a hole closes by itself as long as the nodes left are enough for every layer") {
    std::mt19937 random(7);
    for (int round = 0; round < 150; ++round) {
      CAPTURE(round);
      Mesh mesh{static_cast<std::uint32_t>(4 + random() % 30)};
      const std::size_t count = 2 + random() % 12;
      for (std::size_t i = 0; i < count; ++i) {
        const auto size = static_cast<std::uint32_t>(1 + random() % mesh.num_layers);
        const auto begin = static_cast<std::uint32_t>(random() % (mesh.num_layers - size + 1));
        mesh.nodes.push_back({id_of(i + 1), {begin, begin + size}});
      }
      while (!mesh.nodes.empty()) {
        std::uint32_t held = 0;
        for (const SpanHolder& node : mesh.nodes) held += node.span.size();
        mesh.settle();
        CHECK((uncovered_layers(mesh.all()) == 0) == (held >= mesh.num_layers));
        mesh.nodes.erase(mesh.nodes.begin() +
                         static_cast<std::ptrdiff_t>(random() % mesh.nodes.size()));
      }
    }
  }

  TEST_CASE(
      "nodes that go at the same time, and look again before they do, leave nothing to nobody") {
    std::mt19937 random(3);
    for (int round = 0; round < 60; ++round) {
      CAPTURE(round);
      Mesh mesh{static_cast<std::uint32_t>(4 + random() % 12)};
      const std::size_t count = 6 + random() % 10;
      const std::uint32_t size = 3 + random() % 2;
      for (std::size_t i = 0; i < count; ++i) {
        const auto begin = static_cast<std::uint32_t>(random() % (mesh.num_layers - size + 1));
        mesh.nodes.push_back({id_of(i + 1), {begin, begin + size}});
      }
      bool wished = true;
      for (int moves = 0; wished; ++moves) {
        REQUIRE(moves < 2'000);
        // Whoever wishes to and is not patient enough tells that it leaves, whosever turn it is.
        wished = false;
        std::vector<std::optional<SpanMove>> wishes(mesh.nodes.size());
        MeshCoverage staying{mesh.num_layers, {}};
        for (std::size_t i = 0; i < mesh.nodes.size(); ++i) {
          const auto wish = mesh.move_of(i);
          wished = wished || wish;
          if (wish && random() % 3 == 0) wishes[i] = wish;
          if (!wishes[i]) staying.others.push_back(mesh.nodes[i]);
        }
        const auto before = mesh.counts();
        for (std::size_t i = 0; i < mesh.nodes.size(); ++i) {
          if (wishes[i] && may_leave(staying, mesh.nodes[i].span, wishes[i]->span)) {
            mesh.nodes[i].span = wishes[i]->span;
          }
        }
        const auto after = mesh.counts();
        for (std::uint32_t layer = 0; layer < mesh.num_layers; ++layer) {
          REQUIRE((before[layer] == 0 || after[layer] > 0));
        }
      }
      CHECK(uncovered_layers(mesh.all()) == 0);
    }
  }

  TEST_CASE("a hole beyond the next node closes in a chain of moves, none of which opens another") {
    // Only the first layers have a spare, the hole is at the other end.
    Mesh mesh{9, {{id_of(1), {0, 3}}, {id_of(2), {2, 5}}, {id_of(3), {4, 7}}}};
    CHECK(uncovered_layers(mesh.all()) == 2);
    CHECK(mesh.settle() >= 2);
    CHECK(uncovered_layers(mesh.all()) == 0);
  }

  TEST_CASE("a node that alone serves a layer stays, however bare the others are") {
    const Mesh mesh{6, {{id_of(1), {0, 3}}}};
    CHECK_FALSE(mesh.move_of(0));
    CHECK_FALSE(may_leave(mesh.without(0), {0, 3}, {1, 4}));
    CHECK(may_leave(mesh.without(0), {0, 3}, {0, 4}));
    CHECK(may_leave(mesh.all(), {0, 3}, {3, 6}));
    CHECK(may_leave(mesh.all(), {2, 5}, {3, 6}));
    CHECK_FALSE(may_leave(mesh.all(), {5, 8}, {0, 3}));
  }

  TEST_CASE(
      "one of several equal nodes moves into a hole, the others know that it is not their turn") {
    Mesh mesh{6, {{id_of(3), {0, 3}}, {id_of(1), {0, 3}}, {id_of(2), {0, 3}}}};
    for (std::size_t i = 0; i < 3; ++i) {
      const auto move = mesh.move_of(i);
      REQUIRE(move);
      CHECK(move->span == Span{3, 6});
      CHECK(move->reason == MoveReason::closes_hole);
      CHECK(move->turn == mesh.nodes[i].id[1] - 1u);
    }
  }

  TEST_CASE("nobody moves for less than a move costs") {
    // Three against one: worth the while. Two against one: a move would only change sides.
    const std::vector<SpanHolder> three{
        {id_of(1), {0, 3}}, {id_of(2), {0, 3}}, {id_of(3), {0, 3}}, {id_of(4), {3, 6}}};
    const Mesh lopsided{6, three};
    const auto move = lopsided.move_of(0);
    REQUIRE(move);
    CHECK(move->reason == MoveReason::balance);
    CHECK(move->span == Span{3, 6});
    CHECK_FALSE(lopsided.move_of(0, 5.0));
    const Mesh nearly{6, {three.begin() + 1, three.end()}};
    for (std::size_t i = 0; i < 3; ++i) CHECK_FALSE(nearly.move_of(i));
  }

  TEST_CASE("slow nodes count for less, and boasting moves nobody far") {
    // Layers 3 to 5 have two nodes, but slow ones.
    Mesh mesh{6};
    mesh.nodes = {{id_of(1), {0, 3}, 100},
                  {id_of(2), {0, 3}, 100},
                  {id_of(3), {3, 6}, 400},
                  {id_of(4), {3, 6}, 400},
                  {id_of(5), {0, 3}, 100}};
    CHECK(first_span(mesh.all(), {{id_of(9), {}, 0}, 3}) == Span{3, 6});
    // One that claims a microsecond counts for four of the others, not for a hundred.
    Mesh boasting{6};
    boasting.nodes = {{id_of(1), {0, 3}, 1}};
    for (std::size_t i = 2; i < 8; ++i) boasting.nodes.push_back({id_of(i), {3, 6}, 100});
    CHECK(first_span(boasting.all(), {{id_of(9), {}, 100}, 3}) == Span{0, 3});
  }

  TEST_CASE("of nodes with different speeds and sizes the mesh still comes to rest") {
    std::mt19937 random(11);
    for (int round = 0; round < 60; ++round) {
      CAPTURE(round);
      Mesh mesh{static_cast<std::uint32_t>(6 + random() % 27)};
      for (int i = 0; i < 20; ++i) {
        mesh.join(1 + random() % mesh.num_layers, random() % 3 == 0 ? 0 : 50 + random() % 1'000);
        mesh.settle();
      }
      CHECK(mesh.least() >= 1);
      for (std::size_t i = 0; i < mesh.nodes.size(); ++i) CHECK_FALSE(mesh.move_of(i));
    }
  }
}

}  // namespace farmesh::node
