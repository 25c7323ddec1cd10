#include "serve/page_pool.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using test::kPageTokens;
using test::names_of;
using test::Tokens;

constexpr PageScope kScope{{1}};
const Tokens kPrompt{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};  // two full pages and a half

/// A session that holds all of `tokens`, computed here.
PageTable filled(PagePool& pool, const Tokens& tokens, std::uint32_t max_positions,
                 const PageScope& scope = kScope) {
  PageTable table;
  REQUIRE(pool.open(table, scope, names_of(tokens), max_positions));
  const auto count = static_cast<std::uint32_t>(tokens.size());
  std::vector<PageCopy> copies;
  const auto held = static_cast<std::uint32_t>(table.pages().size()) * kPageTokens;
  if (held < count) pool.grow(table, held, count, copies);
  pool.complete(table, count);
  CHECK(copies.empty());
  return table;
}

std::vector<std::uint32_t> pages(const PageTable& table) {
  return {table.pages().begin(), table.pages().end()};
}

}  // namespace

TEST_SUITE("serve/page_pool") {
  TEST_CASE("a session is admitted only if everything promised fits") {
    PagePool pool(8, kPageTokens);
    PageTable a, b, c;
    REQUIRE(pool.open(a, kScope, {}, 5 * kPageTokens));
    const auto refused = pool.open(b, kScope, {}, 3 * kPageTokens + 1);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_cache_space);
    CHECK(pool.promisable() == 3);
    REQUIRE(pool.open(b, kScope, {}, 3 * kPageTokens));
    CHECK(pool.promisable() == 0);
    CHECK(pool.open(c, kScope, {}, 1).error().code == Errc::no_cache_space);

    std::vector<PageCopy> copies;
    pool.grow(a, 0, 5 * kPageTokens, copies);
    pool.grow(b, 0, 3 * kPageTokens, copies);
    CHECK(pool.used() == 8);
    CHECK(pool.promise(a, 6 * kPageTokens).error().code == Errc::no_cache_space);
    pool.close(b);
    CHECK(pool.promise(a, 6 * kPageTokens));
    CHECK(pool.promise(a, kPageTokens));  // lower: ignored
    CHECK(a.owed() == 1);
    pool.close(a);
    CHECK(pool.free() == 8);
    CHECK(pool.promisable() == 8);
  }

  TEST_CASE("a prefix is found by name, held once, and charged once") {
    PagePool pool(6, kPageTokens);
    PageTable a = filled(pool, kPrompt, 4 * kPageTokens);
    CHECK(pool.promisable() == 2);
    PageTable b;
    REQUIRE(pool.open(b, kScope, names_of(kPrompt), 4 * kPageTokens));
    CHECK(pages(b) == std::vector(a.pages().begin(), a.pages().begin() + 2));
    CHECK(pool.used() == 3);
    CHECK(pool.promisable() == 0);

    pool.close(a);
    CHECK(pool.used() == 2);
    CHECK(pool.cached() == 0);
    CHECK(pool.promisable() == 2);
    pool.close(b);
    CHECK(pool.cached() == 2);
    CHECK(pool.free() == 4);
    CHECK(pool.promisable() == 6);
  }

  TEST_CASE("names of another scope, another prefix or past the promise are not found") {
    PagePool pool(16, kPageTokens);
    PageTable a = filled(pool, kPrompt, 3 * kPageTokens);
    PageTable other_scope, other_prefix, short_promise;
    REQUIRE(pool.open(other_scope, PageScope{{2}}, names_of(kPrompt), 12));
    CHECK(other_scope.pages().empty());
    Tokens tokens = kPrompt;
    tokens[5] = 99;
    REQUIRE(pool.open(other_prefix, kScope, names_of(tokens), 12));
    CHECK(other_prefix.pages().size() == 1);
    REQUIRE(pool.open(short_promise, kScope, names_of(kPrompt), 7));
    CHECK(short_promise.pages().size() == 1);
  }

  TEST_CASE("cached prefixes are evicted least recently held first, their ends before beginnings") {
    PagePool pool(4, kPageTokens);
    const Tokens first{1, 1, 1, 1, 2, 2, 2, 2};
    const Tokens second{3, 3, 3, 3, 4, 4, 4, 4};
    PageTable a = filled(pool, first, 8);
    PageTable b = filled(pool, second, 8);
    pool.close(b);
    pool.close(a);
    CHECK(pool.cached() == 4);

    PageTable fresh;
    REQUIRE(pool.open(fresh, kScope, {}, kPageTokens));
    std::vector<PageCopy> copies;
    pool.grow(fresh, 0, kPageTokens, copies);
    PageTable probe;
    REQUIRE(pool.open(probe, kScope, names_of(second), 8));
    CHECK(probe.pages().size() == 1);
    pool.close(probe);
    REQUIRE(pool.open(probe, kScope, names_of(first), 8));
    CHECK(probe.pages().size() == 2);
  }

  TEST_CASE("a page without a name is free as soon as its session closes") {
    PagePool pool(4, kPageTokens);
    PageTable a;
    REQUIRE(pool.open(a, kScope, {}, 8));
    std::vector<PageCopy> copies;
    pool.grow(a, 0, 8, copies);
    pool.complete(a, 8);
    pool.close(a);
    CHECK(pool.free() == 4);
  }

  TEST_CASE("a page is named when it is full, not before") {
    PagePool pool(4, kPageTokens);
    PageTable a;
    REQUIRE(pool.open(a, kScope, names_of(kPrompt), 12));
    std::vector<PageCopy> copies;
    pool.grow(a, 0, 7, copies);
    pool.complete(a, 7);
    pool.close(a);
    CHECK(pool.cached() == 1);
  }

  TEST_CASE("writing after a cut inside a shared page copies it first") {
    PagePool pool(8, kPageTokens);
    PageTable a = filled(pool, kPrompt, 12);
    PageTable b;
    REQUIRE(pool.open(b, kScope, names_of(kPrompt), 12));
    REQUIRE(pool.truncate(b, 6));
    std::vector<PageCopy> copies;
    pool.grow(b, 6, 9, copies);
    REQUIRE(copies.size() == 1);
    CHECK(copies[0].from == a.pages()[1]);
    CHECK(copies[0].to == b.pages()[1]);
    CHECK(b.pages()[0] == a.pages()[0]);
    CHECK(b.pages()[1] != a.pages()[1]);

    SUBCASE("and the cut page takes no name that was told before the cut") {
      pool.complete(b, 12);
      pool.close(a);
      pool.close(b);
      CHECK(pool.cached() == 2);
    }
    SUBCASE("and names told after the cut are taken") {
      pool.close(a);
      Tokens other = kPrompt;
      other[7] = 77;
      pool.learn(b, kScope, names_of(other));
      pool.complete(b, 9);
      pool.close(b);
      CHECK(pool.cached() == 3);
      PageTable probe;
      REQUIRE(pool.open(probe, kScope, names_of(other), 12));
      CHECK(probe.pages().size() == 2);
    }
  }

  TEST_CASE("a cut inside a page that only this session holds needs no copy, and unnames it") {
    PagePool pool(3, kPageTokens);
    PageTable a = filled(pool, kPrompt, 12);
    REQUIRE(pool.truncate(a, 6));
    std::vector<PageCopy> copies;
    pool.grow(a, 6, 12, copies);
    CHECK(copies.empty());
    pool.close(a);
    CHECK(pool.cached() == 1);
    CHECK(pool.free() == 2);
  }

  TEST_CASE("the copy is spared when the others have gone before the write") {
    PagePool pool(8, kPageTokens);
    PageTable a = filled(pool, kPrompt, 12);
    PageTable b;
    REQUIRE(pool.open(b, kScope, names_of(kPrompt), 12));
    REQUIRE(pool.truncate(b, 6));
    pool.close(a);
    std::vector<PageCopy> copies;
    pool.grow(b, 6, 7, copies);
    CHECK(copies.empty());
    CHECK(pool.promisable() == 8 - 3);
    pool.close(b);
    CHECK(pool.cached() == 1);
  }

  TEST_CASE("a cut into shared pages is refused when no page is left to replace them") {
    PagePool pool(4, kPageTokens);
    PageTable a = filled(pool, kPrompt, 12);
    PageTable b;
    REQUIRE(pool.open(b, kScope, names_of(kPrompt), 12));
    CHECK(pool.promisable() == 0);
    for (const std::uint32_t positions : {6u, 4u, 0u}) {
      const auto refused = pool.truncate(b, positions);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::no_cache_space);
    }
    CHECK(b.pages().size() == 2);
    std::vector<PageCopy> copies;
    pool.grow(b, 8, 12, copies);
    pool.close(a);
    CHECK(pool.truncate(b, 0));
  }

  TEST_CASE("pages computed for one driver take no name from the next") {
    PagePool pool(8, kPageTokens);
    PageTable a;
    REQUIRE(pool.open(a, kScope, {}, 16));
    std::vector<PageCopy> copies;
    pool.grow(a, 0, 10, copies);
    pool.complete(a, 10);
    Tokens tokens = kPrompt;
    tokens.resize(16);
    pool.learn(a, PageScope{{2}}, names_of(tokens));
    pool.grow(a, 10, 16, copies);
    pool.complete(a, 16);
    pool.close(a);
    CHECK(pool.cached() == 1);  // the fourth page alone was begun and filled for the second
  }
}

// --- random walks ----------------------------------------------------------------------------

namespace {

/// Random sessions over a few texts that share prefixes. Knows what every slot must hold.
class Walk {
 public:
  Walk(std::uint32_t seed, std::uint32_t pages)
      : random_(seed), pool_(pages, kPageTokens), slots_(pages * kPageTokens) {}

  void step() {
    if (sessions_.empty() || pick(6) == 0) {
      open();
    } else {
      const std::size_t index = pick(sessions_.size());
      switch (pick(6)) {
        case 0: close(index); break;
        case 1: cut(sessions_[index]); break;
        case 2: learn(sessions_[index]); break;
        default: extend(sessions_[index]);
      }
    }
    check();
  }

  void end() {
    while (!sessions_.empty()) close(sessions_.size() - 1);
    check();
    CHECK(pool_.promisable() == pool_.pages());
  }

  int refused_opens = 0;
  int refused_cuts = 0;
  int shared_opens = 0;
  int copies = 0;

 private:
  struct Session {
    PageTable table;
    Tokens text;  // what it computes, max_positions long
    std::uint32_t computed = 0;
  };

  std::uint32_t pick(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }

  /// One of two texts from `from` on, sometimes with a token changed.
  void rewrite(Tokens& text, std::uint32_t from) {
    const TokenId kind = 100 * pick(2);
    for (std::size_t i = from; i < text.size(); ++i) {
      text[i] = kind + static_cast<TokenId>(i / 3);
    }
    if (from < text.size() && pick(3) == 0) text[from + pick(text.size() - from)] = 250;
  }

  std::vector<PageName> some_names(const Tokens& text) {
    return names_of({text.begin(), text.begin() + pick(text.size() + 1)});
  }

  auto counts() const { return std::tuple(pool_.used(), pool_.cached(), pool_.promisable()); }

  void open() {
    Session session;
    session.text.resize(1 + pick(40));
    rewrite(session.text, 0);
    const auto before = counts();
    const auto size = static_cast<std::uint32_t>(session.text.size());
    if (!pool_.open(session.table, kScope, some_names(session.text), size)) {
      ++refused_opens;
      CHECK(counts() == before);
      return;
    }
    session.computed = static_cast<std::uint32_t>(session.table.pages().size()) * kPageTokens;
    if (session.computed > 0) ++shared_opens;
    sessions_.push_back(std::move(session));
  }

  void extend(Session& session) {
    const auto to = session.computed + pick(session.text.size() - session.computed + 1);
    if (to == session.computed) return;
    std::vector<PageCopy> made;
    pool_.grow(session.table, session.computed, to, made);
    for (const PageCopy& copy : made) {
      std::copy_n(&slots_[copy.from * kPageTokens], kPageTokens, &slots_[copy.to * kPageTokens]);
      ++copies;
    }
    if (pick(8) == 0) return;  // the pass failed: positions stay as they were
    for (std::uint32_t i = session.computed; i < to; ++i) slot(session, i) = prefix(session, i);
    session.computed = to;
    pool_.complete(session.table, to);
  }

  void cut(Session& session) {
    const std::uint32_t positions = pick(session.computed + 1);
    const auto before = counts();
    if (!pool_.truncate(session.table, positions)) {
      ++refused_cuts;
      CHECK(counts() == before);
      return;
    }
    session.computed = positions;
    rewrite(session.text, positions);
  }

  void learn(Session& session) {
    pool_.learn(session.table, kScope, some_names(session.text));
    pool_.complete(session.table, session.computed);
  }

  void close(std::size_t index) {
    pool_.close(sessions_[index].table);
    sessions_.erase(sessions_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  static Tokens prefix(const Session& session, std::uint32_t position) {
    return {session.text.begin(), session.text.begin() + position + 1};
  }
  Tokens& slot(const Session& session, std::uint32_t position) {
    return slots_[session.table.pages()[position / kPageTokens] * kPageTokens +
                  position % kPageTokens];
  }

  void check() {
    std::set<std::uint32_t> held;
    std::uint32_t owed = 0;
    for (const Session& session : sessions_) {
      held.insert(session.table.pages().begin(), session.table.pages().end());
      owed += session.table.owed();
      for (std::uint32_t i = 0; i < session.computed; ++i) {
        REQUIRE(slot(session, i) == prefix(session, i));
      }
    }
    REQUIRE(pool_.used() == held.size());
    REQUIRE(pool_.used() + pool_.cached() + pool_.free() == pool_.pages());
    REQUIRE(pool_.used() + owed + pool_.promisable() == pool_.pages());
  }

  std::mt19937 random_;
  PagePool pool_;
  std::vector<Session> sessions_;
  std::vector<Tokens> slots_;  // by page and slot: the text up to that position
};

}  // namespace

TEST_SUITE("serve/page_pool") {
  TEST_CASE("random sessions keep their rows, and no page is lost or held by the wrong ones") {
    int refused_opens = 0, refused_cuts = 0, shared_opens = 0, copies = 0;
    for (std::uint32_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Walk walk(seed, 8 + seed);
      for (int i = 0; i < 300; ++i) walk.step();
      walk.end();
      refused_opens += walk.refused_opens;
      refused_cuts += walk.refused_cuts;
      shared_opens += walk.shared_opens;
      copies += walk.copies;
    }
    // The walk came by every branch.
    CHECK(refused_opens > 100);
    CHECK(refused_cuts > 5);
    CHECK(shared_opens > 100);
    CHECK(copies > 20);
  }
}

}  // namespace farmesh::serve
