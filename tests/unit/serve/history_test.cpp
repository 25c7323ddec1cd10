#include "serve/history.hpp"

#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using test::Bytes;
using test::bytes_of;
using test::session_id;

constexpr std::size_t kRow = 8;

/// Rows whose bytes tell their position and `flavour`.
History::Part part(std::uint32_t position, std::uint32_t count, std::uint8_t flavour = 0) {
  AlignedBuffer rows(count * kRow);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows.data()[i] = static_cast<std::byte>(position + i / kRow + std::size_t{100} * flavour);
  }
  return {position, count, Payload(std::move(rows))};
}

std::pair<std::uint32_t, std::uint32_t> stored(const History& history, std::uint32_t session) {
  const auto range = history.stored(session_id(session));
  return {range.begin, range.end};
}

using Range = std::pair<std::uint32_t, std::uint32_t>;

Bytes rows(const History& history, std::uint32_t session, std::uint32_t from, std::uint32_t to) {
  Bytes all;
  std::uint32_t next = from;
  for (const auto& piece : history.parts(session_id(session), from, to)) {
    CHECK(piece.position == next);
    CHECK(piece.rows.size() == piece.count * kRow);
    next = piece.end();
    const Bytes bytes = bytes_of(piece.rows);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  CHECK(next == to);
  return all;
}

}  // namespace

TEST_SUITE("serve/history") {
  TEST_CASE("what was appended comes back, in any range, without a copy") {
    History history(1 << 20);
    const auto first = part(4, 5);
    const std::byte* memory = first.rows.view().data();
    history.append(session_id(1), first);
    history.append(session_id(1), part(9, 1));
    CHECK(stored(history, 1) == Range{4, 10});
    CHECK(rows(history, 1, 4, 10) == bytes_of(part(4, 6).rows));
    CHECK(rows(history, 1, 6, 8) == bytes_of(part(6, 2).rows));
    CHECK(rows(history, 1, 8, 10) == bytes_of(part(8, 2).rows));
    CHECK(history.parts(session_id(1), 7, 7).empty());
    CHECK(history.parts(session_id(1), 5, 6)[0].rows.view().data() == memory + kRow);
    CHECK(stored(history, 2) == Range{0, 0});
  }

  TEST_CASE("rows computed again replace those stored, also inside a part") {
    History history(1 << 20);
    history.append(session_id(1), part(0, 6));
    history.append(session_id(1), part(4, 3, 1));
    CHECK(stored(history, 1) == Range{0, 7});
    CHECK(rows(history, 1, 0, 4) == bytes_of(part(0, 4).rows));
    CHECK(rows(history, 1, 4, 7) == bytes_of(part(4, 3, 1).rows));
    history.truncate(session_id(1), 2);
    CHECK(stored(history, 1) == Range{0, 2});
    history.truncate(session_id(1), 9);
    history.truncate(session_id(7), 0);
    CHECK(stored(history, 1) == Range{0, 2});
    history.append(session_id(1), part(8, 1));  // a gap
    CHECK(stored(history, 1) == Range{8, 9});
    history.truncate(session_id(1), 3);
    CHECK(stored(history, 1) == Range{3, 3});
  }

  TEST_CASE("the oldest session loses its beginning first when the budget is spent") {
    History history(4 * (160 + kRow));
    history.append(session_id(1), part(0, 1));
    history.append(session_id(1), part(1, 1));
    history.append(session_id(2), part(0, 1));
    history.append(session_id(2), part(1, 1));
    CHECK(stored(history, 1) == Range{0, 2});
    history.append(session_id(2), part(2, 1));
    CHECK(stored(history, 1) == Range{1, 2});
    history.append(session_id(2), part(3, 1));
    CHECK(stored(history, 1) == Range{2, 2});
    history.append(session_id(2), part(4, 1));
    CHECK(stored(history, 2) == Range{1, 5});
    history.append(session_id(1), part(2, 1));  // still the older one, though it writes now
    CHECK(stored(history, 1) == Range{3, 3});
    CHECK(stored(history, 2) == Range{1, 5});
    history.forget(session_id(2));
    CHECK(history.bytes() == 0);
    history.append(session_id(1), part(3, 200));  // alone larger than the budget
    CHECK(stored(history, 1) == Range{203, 203});
    CHECK(history.bytes() == 0);
  }

  TEST_CASE("random appends and cuts keep the ledger of bytes and every stored row") {
    std::mt19937 random(7);
    History history(60 * (160 + kRow));
    std::map<std::uint32_t, std::map<std::uint32_t, std::uint8_t>> flavours;
    for (int i = 0; i < 20'000; ++i) {
      const std::uint32_t session = random() % 4;
      const Range now = stored(history, session);
      switch (random() % 8) {
        case 0: {
          const std::uint32_t position = random() % (now.second + 2);
          history.truncate(session_id(session), position);
          break;
        }
        case 1:
          if (random() % 8 == 0) history.forget(session_id(session));
          break;
        default: {
          const std::uint32_t back = random() % 3;
          const std::uint32_t position = now.second > back ? now.second - back : 0;
          const std::uint32_t count = 1 + random() % 4;
          if (position + count > 90) {
            history.forget(session_id(session));
            break;
          }
          const auto flavour = static_cast<std::uint8_t>(random() % 2);
          history.append(session_id(session), part(position, count, flavour));
          for (std::uint32_t k = 0; k < count; ++k) flavours[session][position + k] = flavour;
        }
      }
      const Range range = stored(history, session);
      REQUIRE(range.first <= range.second);
      REQUIRE(history.bytes() <= 60 * (160 + kRow));
      if (range.first == range.second) continue;
      const Bytes all = rows(history, session, range.first, range.second);
      for (std::uint32_t position = range.first; position < range.second; ++position) {
        const auto expected = static_cast<std::byte>(position + 100 * flavours[session][position]);
        REQUIRE(all[(position - range.first) * kRow] == expected);
      }
    }
    for (std::uint32_t session = 0; session < 4; ++session) history.forget(session_id(session));
    CHECK(history.bytes() == 0);
  }
}

}  // namespace farmesh::serve
