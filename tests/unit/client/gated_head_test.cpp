#include "client/gated_head.hpp"

#include <doctest/doctest.h>

namespace farmesh::client {
namespace {

// Answers embeddings at once, and remembers what was asked.
struct DirectHead final : wire::Head {
  std::vector<std::vector<TokenId>> embedded;

  void embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) override {
    embedded.push_back(std::move(ids));
    done(Payload());
  }
  void logits(Payload, std::uint32_t,
              std::function<void(Result<std::vector<float>>)> done) override {
    done(std::vector<float>{1});
  }
};

}  // namespace

TEST_SUITE("client/gated_head") {
  TEST_CASE("embeddings wait in order while the gate is closed, logits never do") {
    DirectHead head;
    bool open = true;
    GatedHead gated(head, [&open] { return open; });
    int answers = 0;
    const auto done = [&answers](const Result<Payload>& payload) { answers += payload ? 1 : 0; };

    gated.embed({1}, done);
    CHECK(answers == 1);
    open = false;
    gated.embed({2}, done);
    gated.embed({3}, done);
    gated.poke();
    CHECK(answers == 1);
    bool sampled = false;
    gated.logits({}, 1, [&sampled](const Result<std::vector<float>>&) { sampled = true; });
    CHECK(sampled);

    open = true;
    gated.embed({4}, done);  // must not overtake those that wait
    CHECK(answers == 1);
    gated.poke();
    CHECK(answers == 4);
    CHECK(head.embedded == std::vector<std::vector<TokenId>>{{1}, {2}, {3}, {4}});
  }
}

}  // namespace farmesh::client
