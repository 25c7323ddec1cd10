// The public HiddenSession over real threads and no weights, so that every sanitizer can watch it.
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <farmesh/hidden_session.hpp>

#include "unit/node/stand_in_model.hpp"

namespace farmesh {
namespace {

using test::StandInModel;

HiddenSession open(const std::shared_ptr<StandInModel>& model, const SessionOptions& options = {}) {
  const std::shared_ptr<const client::SharedModel> shared(model, &model->shared());
  Result<HiddenSession> session = client::make_hidden_session(shared, options);
  REQUIRE(session);
  return *std::move(session);
}

Rows embedded(const StandInModel& model, const std::vector<TokenId>& ids) {
  Result<Rows> rows = client::embed(model.shared(), ids);
  REQUIRE(rows);
  return *std::move(rows);
}

/// Rows [from, from + count), of the same memory.
Rows part(const Rows& rows, std::uint32_t from, std::uint32_t count) {
  Rows some = rows;
  const std::size_t row = rows.bytes.size() / rows.count;
  some.count = count;
  some.bytes = rows.bytes.subspan(from * row, count * row);
  return some;
}

std::vector<std::byte> bytes_of(const Rows& rows) { return {rows.bytes.begin(), rows.bytes.end()}; }

std::vector<TokenId> some_ids(std::size_t count) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < count; ++i) ids.push_back(TokenId(3 + i * 7 % 90));
  return ids;
}

}  // namespace

TEST_SUITE("node/hidden_session") {
  TEST_CASE("the layers' output is the one that tokens are made of") {
    const auto model = std::make_shared<StandInModel>();
    const std::vector<TokenId> ids = some_ids(20);
    HiddenSession session = open(model);
    const Result<Rows> out = session.run(embedded(*model, ids));
    REQUIRE(out);
    CHECK(out->count == 20);
    CHECK(out->columns == model->shared().hidden_size);
    CHECK(session.position() == 20);
    REQUIRE(session.hops().size() == 1);
    CHECK(session.hops()[0].span == Span{0, test::kLayers});

    const Result<Rows> logits = client::logits(model->shared(), part(*out, 19, 1));
    REQUIRE(logits);
    REQUIRE(logits->columns == model->shared().vocab_size);
    std::vector<float> last(logits->columns);
    std::memcpy(last.data(), logits->bytes.data(), logits->bytes.size());
    const auto likeliest = std::max_element(last.begin(), last.end()) - last.begin();
    CHECK(TokenId(likeliest) == test::reference(ids, 1).back());
  }

  TEST_CASE("rows that come one by one give what they give at once") {
    const auto model = std::make_shared<StandInModel>();
    const Rows all = embedded(*model, some_ids(300));
    HiddenSession whole = open(model);
    const Result<Rows> at_once = whole.run(all);
    REQUIRE(at_once);
    HiddenSession pieces = open(model);
    std::vector<std::byte> joined;
    std::uint32_t done = 0;
    for (const std::uint32_t count : {1u, 1u, 258u, 40u}) {
      const Result<Rows> out = pieces.run(part(all, done, count));
      REQUIRE(out);
      joined.insert(joined.end(), out->bytes.begin(), out->bytes.end());
      done += count;
    }
    CHECK(joined == bytes_of(*at_once));
  }

  TEST_CASE("forgotten rows are run again, others in their place") {
    const auto model = std::make_shared<StandInModel>();
    const Rows all = embedded(*model, some_ids(30));
    HiddenSession session = open(model);
    const auto first = session.run(all);
    REQUIRE(first);
    REQUIRE(session.truncate(10));
    CHECK(session.position() == 10);
    const auto again = session.run(part(all, 10, 20));
    REQUIRE(again);
    CHECK(bytes_of(*again) == bytes_of(part(*first, 10, 20)));
    CHECK(session.truncate(31).error().code == Errc::invalid_argument);
    REQUIRE(session.truncate(0));
    CHECK(bytes_of(*session.run(all)) == bytes_of(*first));
  }

  TEST_CASE("the memory that was given is used, not a copy of it, and kept while it is needed") {
    const auto model = std::make_shared<StandInModel>();
    const Rows made = embedded(*model, some_ids(8));
    std::atomic<bool> alive = true;
    {
      auto memory = std::shared_ptr<std::vector<std::byte>>(
          new std::vector<std::byte>(bytes_of(made)), [&alive](std::vector<std::byte>* held) {
            delete held;
            alive = false;
          });
      Rows mine = made;
      mine.bytes = *memory;
      mine.owner = std::move(memory);
      HiddenSession session = open(model);
      REQUIRE(session.run(std::move(mine)));
      CHECK(alive);
      REQUIRE(session.truncate(0));
      session.cancel();
      REQUIRE(session.run(made));
    }
    while (alive) model->steps();  // until all threads have let it go

    // Without an owner the rows are copied: their memory may go at once.
    HiddenSession session = open(model);
    std::vector<std::byte> brief = bytes_of(made);
    Rows rows = made;
    rows.bytes = brief;
    rows.owner = nullptr;
    const auto out = session.run(rows);
    REQUIRE(out);
    std::fill(brief.begin(), brief.end(), std::byte{0xff});
    REQUIRE(session.truncate(4));
    session.cancel();  // what was computed is gone: the rows before are run again
    const auto rest = session.run(part(made, 4, 4));
    REQUIRE(rest);
    CHECK(bytes_of(*rest) == bytes_of(part(*out, 4, 4)));
  }

  TEST_CASE("what are no hidden states of the model is refused, and changes nothing") {
    const auto model = std::make_shared<StandInModel>();
    HiddenSession session = open(model, {.context_tokens = 8});
    const Rows good = embedded(*model, some_ids(6));
    REQUIRE(session.run(good));
    Rows narrow = good;
    narrow.columns -= 1;
    Rows other = good;
    other.dtype = good.dtype == DType::f32 ? DType::bf16 : DType::f32;
    Rows small = good;
    small.bytes = good.bytes.first(good.bytes.size() - 1);
    Rows none = part(good, 0, 1);
    none.count = 0;
    std::vector<float> nan(good.columns, std::numeric_limits<float>::quiet_NaN());
    Rows wild = part(good, 0, 1);
    wild.bytes = std::as_bytes(std::span(nan));
    wild.owner = nullptr;
    for (const Rows& wrong : {narrow, other, small, none, wild, Rows{}}) {
      const Result<Rows> refused = session.run(wrong);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::invalid_argument);
      CHECK_FALSE(client::logits(model->shared(), wrong));
    }
    CHECK(session.run(part(good, 0, 3)).error().code == Errc::context_exceeded);
    CHECK(session.position() == 6);
    CHECK(session.run(part(good, 0, 2)));

    CHECK(client::embed(model->shared(), {}).error().code == Errc::invalid_argument);
    CHECK(client::embed(model->shared(), {1u << 30}).error().code == Errc::invalid_argument);
    CHECK(client::embed(model->shared(), some_ids(test::kContext + 1)).error().code ==
          Errc::context_exceeded);
    client::SharedModel headless = model->shared();
    headless.head = nullptr;
    CHECK(client::embed(headless, {3}).error().code == Errc::unsupported);
    CHECK(client::logits(headless, good).error().code == Errc::unsupported);
    CHECK(client::make_hidden_session(std::make_shared<client::SharedModel>(headless), {})
              .error()
              .code == Errc::unsupported);
  }

  TEST_CASE("cancel from another thread ends a run, and the session goes on") {
    const auto model = std::make_shared<StandInModel>();
    const Rows all = embedded(*model, some_ids(400));
    HiddenSession session = open(model);
    const auto before = session.run(part(all, 0, 10));
    REQUIRE(before);
    std::atomic<bool> over = false;
    std::thread canceller([&] {
      while (!over) session.cancel();
    });
    int cancelled = 0;
    for (int i = 0; i < 50; ++i) {
      const auto out = session.run(part(all, 10, 390));
      if (out) {
        REQUIRE(session.truncate(10));
      } else {
        CHECK(out.error().code == Errc::cancelled);
        ++cancelled;
      }
      CHECK(session.position() == 10);
    }
    over = true;
    canceller.join();
    CHECK(cancelled > 0);
    HiddenSession fresh = open(model);
    CHECK(bytes_of(*fresh.run(part(all, 0, 10))) == bytes_of(*before));
  }
}

}  // namespace farmesh
