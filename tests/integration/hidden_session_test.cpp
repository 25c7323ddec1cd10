// Hidden states through a real engine: here, over peers, and over peers that are lost.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

DistributedModel open_model(ModelOptions options) {
  options.folder = any_model();
  options.threads = 1;
  Result<DistributedModel> model = DistributedModel::open(std::move(options));
  INFO((model ? "" : model.error().to_string()));
  REQUIRE(model);
  return *std::move(model);
}

Peer start_peer(Span layers, std::optional<Precision> precision) {
  PeerOptions options;
  options.folder = any_model();
  options.layers = layers;
  options.precision = precision;
  options.threads = 1;
  Result<Peer> peer = Peer::start(std::move(options));
  REQUIRE(peer);
  return *std::move(peer);
}

std::vector<std::byte> all_of(const Rows& rows) { return {rows.bytes.begin(), rows.bytes.end()}; }

Rows embedded(const DistributedModel& model, const std::string& text) {
  const auto ids = model.encode(text);
  REQUIRE(ids);
  Result<Rows> rows = model.embed(*ids);
  REQUIRE(rows);
  return *std::move(rows);
}

}  // namespace

TEST_SUITE("integration/hidden_session") {
  TEST_CASE("over three peers hidden states are bit for bit what they are in one process") {
    const std::uint32_t layers = layers_of(any_model());
    for (const std::optional<Precision> precision :
         {std::optional<Precision>(), std::optional(Precision::f32)}) {
      const DistributedModel here = open_model({.local = true, .precision = precision});
      const Rows input = embedded(here, "Once upon a time there was a fox who");
      CHECK(input.dtype == here.info().hidden_dtype);
      CHECK(input.columns == here.info().hidden_size);
      auto local = here.open_hidden_session();
      const auto expected = local->run(input);
      REQUIRE(expected);

      std::vector<Peer> peers;
      std::vector<std::string> addresses;
      for (const Span span :
           {Span{0, layers / 3}, Span{layers / 3, 2 * layers / 3}, Span{2 * layers / 3, layers}}) {
        peers.push_back(start_peer(span, precision));
        addresses.push_back(peers.back().address());
      }
      const DistributedModel there = open_model({.peers = addresses, .precision = precision});
      auto session = there.open_hidden_session();
      CHECK(all_of(embedded(there, "Once upon a time there was a fox who")) == all_of(input));
      const auto out = session->run(input);
      REQUIRE(out);
      CHECK(out->dtype == input.dtype);
      CHECK(all_of(*out) == all_of(*expected));
      CHECK(session->hops().size() == 3);
    }
  }

  TEST_CASE("the head makes of them the token that a session makes") {
    const DistributedModel model = open_model({.local = true});
    const Rows input = embedded(model, kStoryPrompt);
    auto hidden = model.open_hidden_session();
    const auto out = hidden->run(input);
    REQUIRE(out);
    const auto logits = model.logits(*out);
    REQUIRE(logits);
    CHECK(logits->dtype == DType::f32);
    CHECK(logits->count == input.count);
    std::vector<float> last(logits->columns);
    std::memcpy(last.data(), logits->bytes.subspan(logits->bytes.size() - last.size() * 4).data(),
                last.size() * 4);
    auto session = model.open_session();
    TokenStream stream =
        session->generate(kStoryPrompt, {.max_tokens = 1, .sampling = {.temperature = 0}});
    const auto token = stream.next();
    REQUIRE((token && *token));
    CHECK(std::max_element(last.begin(), last.end()) - last.begin() ==
          std::ptrdiff_t((*token)->id));
  }

  TEST_CASE("a peer that is lost between two runs is replaced, and the rows are the same") {
    const std::uint32_t layers = layers_of(any_model());
    std::vector<Peer> peers;
    std::vector<std::string> addresses;
    for (const Span span : {Span{0, 2}, Span{2, layers}, Span{2, layers}}) {
      peers.push_back(start_peer(span, {}));
      addresses.push_back(peers.back().address());
    }
    const DistributedModel model = open_model({.peers = addresses});
    const DistributedModel here = open_model({.local = true});
    auto session = model.open_hidden_session();
    auto whole = here.open_hidden_session();
    const Rows first = embedded(here, "Once upon a time");
    const Rows second = embedded(here, " there was a little girl");
    CHECK(all_of(*session->run(first)) == all_of(*whole->run(first)));
    const std::string last = session->hops().back().peer;
    for (Peer& peer : peers) {
      if (peer.address() == last) peer.stop();
    }
    const auto out = session->run(second);
    INFO((out ? "" : out.error().to_string()));
    REQUIRE(out);
    CHECK(all_of(*out) == all_of(*whole->run(second)));
    CHECK(session->hops().back().peer != last);
  }
}

}  // namespace farmesh::test
