// A peer of a later version sends fields this build does not know.
#include <cstring>

#include <doctest/doctest.h>

#include "unit/wire/newer_generated.h"
#include "unit/wire/samples.hpp"

namespace farmesh::wire {
namespace {

namespace newer_fb = ::farmesh::wire::newer;

HeaderBytes newer_step() {
  flatbuffers::FlatBufferBuilder builder;
  const newer_fb::Span span(11, 22);
  const auto hop = newer_fb::CreateHop(builder, builder.CreateString("10.0.0.2:31330"), &span, 0,
                                       builder.CreateString("eu-west"));
  const auto route = builder.CreateVector(&hop, 1);
  const auto note = builder.CreateString(std::string(1'000, 'n'));
  const std::vector<std::uint32_t> tokens = {1, 2, 3};
  const auto draft = builder.CreateVector(tokens);
  const auto speculation = newer_fb::CreateSpeculation(builder, draft);
  newer_fb::Bytes16 session;
  std::memcpy(static_cast<void*>(&session), test::session_id().bytes.data(), sizeof session);
  builder.Finish(newer_fb::CreateStep(builder, &session, 2, 511, 1, 1, 1, false, 0, route, 0, 0,
                                      false, -7, note, speculation));
  const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {data, data + builder.GetSize()};
}

}  // namespace

TEST_SUITE("wire/newer_peer") {
  TEST_CASE("fields added by a later version are skipped") {
    const Result<Step> step = decode<Step>(newer_step());
    REQUIRE_MESSAGE(step, step.error().to_string());
    CHECK(step->session == test::session_id());
    CHECK(step->epoch == 2);
    CHECK(step->position == 511);
    CHECK(step->dtype == DType::bf16);
    REQUIRE(step->route.size() == 1);
    CHECK(step->route[0].address == "10.0.0.2:31330");
    CHECK(step->route[0].span == Span{11, 22});
    CHECK(step->times.empty());
  }

  TEST_CASE("fields that an older version does not send read as absent") {
    // The newer schema calls one of them required; a verifier of that version would refuse.
    const HeaderBytes header = encode(test::sample_step());
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(header.data()),
                                   header.size());
    CHECK_FALSE(verifier.VerifyBuffer<newer_fb::Step>(nullptr));
    const auto* step = flatbuffers::GetRoot<newer_fb::Step>(header.data());
    CHECK(step->priority() == 0);
    CHECK(step->note() == nullptr);
    CHECK(step->route()->size() == 2);
  }
}

}  // namespace farmesh::wire
