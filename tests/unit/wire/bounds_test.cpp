// Every bound of messages.hpp, exceeded by one.
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "unit/wire/samples.hpp"

namespace farmesh::wire {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Fails unless the message is refused for `field`.
template <class Message>
void refused(const Message& message, std::string_view field) {
  CAPTURE(field);
  const Result<Message> back = decode<Message>(encode(message));
  REQUIRE_FALSE(back);
  CHECK(back.error().code == Errc::bad_header);
  CHECK(back.error().detail.find(field) != std::string::npos);
}

/// `message` with one change, refused for `field`.
template <class Message, class Change>
void refused_when(Message message, std::string_view field, const Change& change) {
  REQUIRE(decode<Message>(encode(message)));
  change(message);
  refused(message, field);
}

const std::string kTooLong(kMaxTextField + 1, 'x');

}  // namespace

TEST_SUITE("wire/bounds") {
  TEST_CASE("hello") {
    const Hello good = test::sample_hello();
    refused_when(good, "version", [](Hello& m) { m.min_version = 0; });
    refused_when(good, "version", [](Hello& m) { m.min_version = 9; });
    refused_when(good, "listen_address", [](Hello& m) { m.listen_address = kTooLong; });
    refused_when(good, "listen_address", [](Hello& m) { m.listen_address = "a\nb:1"; });
    refused_when(good, "numerics_class", [](Hello& m) { m.service.numerics_class = kTooLong; });
    refused_when(good, "span", [](Hello& m) { m.service.span = {22, 11}; });
    refused_when(good, "span", [](Hello& m) { m.service.span = {22, 33}; });
    refused_when(good, "num_layers", [](Hello& m) { m.service.num_layers = kMaxLayers + 1; });
    refused_when(good, "hidden_size", [](Hello& m) { m.service.hidden_size = kMaxHiddenSize + 1; });
    refused_when(good, "vocab_size", [](Hello& m) { m.service.vocab_size = kMaxVocabSize + 1; });
    refused_when(good, "page_tokens", [](Hello& m) { m.service.page_tokens = kMaxPosition + 1; });
    refused_when(good, "residual", [](Hello& m) { m.service.residual = static_cast<DType>(5); });
  }

  TEST_CASE("open") {
    const Open good = test::sample_open();
    refused_when(good, "span", [](Open& m) { m.span = {2, 1}; });
    refused_when(good, "span", [](Open& m) { m.span = {0, kMaxLayers + 1}; });
    refused_when(good, "max_positions", [](Open& m) { m.max_positions = kMaxPosition + 1; });
    refused_when(good, "numerics_class", [](Open& m) { m.numerics_class = kTooLong; });
    refused_when(good, "page_names", [](Open& m) { m.page_names.resize(kMaxPageNames + 1); });
    refused_when(good, "traceparent", [](Open& m) { m.traceparent = kTooLong; });
    refused_when(good, "traceparent", [](Open& m) { m.traceparent = "\xff\xfe"; });
    refused_when(good, "prompt_positions", [](Open& m) { m.prompt_positions = kMaxPosition + 1; });
    refused_when(good, "grant", [](Open& m) { m.grant.resize(kMaxGrantBytes + 1); });
    refused(OpenReply{kMaxPosition + 1, 1, 1}, "held_positions");
    refused(OpenReply{1, 1, kMaxStepRows + 1}, "max_step_rows");
  }

  TEST_CASE("step") {
    const Step good = test::sample_step();
    refused_when(good, "position", [](Step& m) { m.position = kMaxPosition + 1; });
    refused_when(good, "position", [](Step& m) { m.position = kMaxPosition; });
    refused_when(good, "position", [](Step& m) { m.position = 0xffffffff; });
    refused_when(good, "count", [](Step& m) { m.count = 0; });
    refused_when(good, "count", [](Step& m) { m.count = kMaxStepRows + 1; });
    refused_when(good, "dtype", [](Step& m) { m.dtype = static_cast<DType>(5); });
    refused_when(good, "want", [](Step& m) { m.want = static_cast<Want>(3); });
    refused_when(good, "route", [](Step& m) { m.route.resize(kMaxHops + 1, m.route[0]); });
    refused_when(good, "route.address", [](Step& m) { m.route[1].address.clear(); });
    refused_when(good, "route.address", [](Step& m) { m.route[1].address = kTooLong; });
    refused_when(good, "route.span", [](Step& m) { m.route[0].span = {9, 8}; });
    refused_when(good, "times", [](Step& m) { m.times.resize(kMaxHops + 1); });
  }

  TEST_CASE("step reply") {
    const StepReply good = test::sample_step_reply();
    refused_when(good, "position", [](StepReply& m) { m.position = kMaxPosition - 3; });
    refused_when(good, "count", [](StepReply& m) { m.count = kMaxStepRows + 1; });
    refused_when(good, "rows", [](StepReply& m) { m.rows = m.count + 1; });
    refused_when(good, "dtype", [](StepReply& m) { m.dtype = static_cast<DType>(255); });
    refused_when(good, "times", [](StepReply& m) { m.times.resize(kMaxHops + 1); });
  }

  TEST_CASE("truncate, replay and history") {
    refused(Truncate{test::session_id(), 1, kMaxPosition + 1}, "position");
    const Replay good = test::sample_replay();
    refused_when(good, "from", [](Replay& m) { m.from = m.to + 1; });
    refused_when(good, "to", [](Replay& m) { m.to = kMaxPosition + 1; });
    refused_when(good, "route", [](Replay& m) { m.route.resize(kMaxHops + 1, m.route[0]); });
    refused(HistoryReply{kMaxPosition + 1, 0, 0}, "positions");
    refused(Close{{}, kMaxPosition + 1}, "positions");
    refused(HistoryReply{0, 0, kMaxPosition + 1}, "stored_end");
    refused(HistoryReply{0, 2, 1}, "stored_begin");
  }

  TEST_CASE("error") {
    const ErrorMessage good = test::sample_error();
    refused_when(good, "number", [](ErrorMessage& m) { m.code = Errc::ok; });
    refused_when(good, "position", [](ErrorMessage& m) { m.position = kMaxPosition + 1; });
    refused_when(good, "hop", [](ErrorMessage& m) { m.hop = kTooLong; });
  }

  TEST_CASE("generate") {
    const Generate good = test::sample_generate();
    refused_when(good, "prompt_tokens", [](Generate& m) { m.prompt_tokens = kMaxPosition + 1; });
    refused_when(good, "emitted_tokens", [](Generate& m) { m.emitted_tokens = 101; });
    refused_when(good, "max_tokens", [](Generate& m) { m.max_tokens = kMaxPosition + 1; });
    refused_when(good, "stop_tokens",
                 [](Generate& m) { m.stop_tokens.resize(kMaxStopTokens + 1); });
    refused_when(good, "peers", [](Generate& m) { m.peers.resize(kMaxPeers + 1, "a:1"); });
    refused_when(good, "peers", [](Generate& m) { m.peers[0].clear(); });
    refused_when(good, "peers", [](Generate& m) { m.peers[0] = kTooLong; });
  }

  TEST_CASE("sampling") {
    const auto when = [](std::string_view field, const auto& change) {
      refused_when(test::sample_generate(), field, [&](Generate& m) { change(m.sampling); });
    };
    for (const float bad : {kNan, kInfinity, -kInfinity, -1.f}) {
      CAPTURE(bad);
      when("temperature", [&](SamplingOptions& s) { s.temperature = bad; });
      when("top_p", [&](SamplingOptions& s) { s.top_p = bad; });
      when("min_p", [&](SamplingOptions& s) { s.min_p = bad; });
      when("repetition_penalty", [&](SamplingOptions& s) { s.repetition_penalty = bad; });
      if (bad == -1.f) continue;
      when("presence_penalty", [&](SamplingOptions& s) { s.presence_penalty = bad; });
      when("frequency_penalty", [&](SamplingOptions& s) { s.frequency_penalty = bad; });
      when("logit_bias", [&](SamplingOptions& s) { s.logit_bias[1].bias = bad; });
    }
    when("top_p", [](SamplingOptions& s) { s.top_p = 1.5f; });
    when("repetition_penalty", [](SamplingOptions& s) { s.repetition_penalty = 0; });
    when("logit_bias", [](SamplingOptions& s) { s.logit_bias.resize(kMaxLogitBias + 1); });
    when("top_logprobs", [](SamplingOptions& s) { s.top_logprobs = kMaxTopTokens + 1; });
  }

  TEST_CASE("token") {
    const TokenMessage good = test::sample_token();
    refused_when(good, "index", [](TokenMessage& m) { m.index = kMaxPosition + 1; });
    refused_when(good, "id", [](TokenMessage& m) { m.id = kMaxVocabSize; });
    refused_when(good, "logprob", [](TokenMessage& m) { m.logprob = kNan; });
    refused_when(good, "logprob", [](TokenMessage& m) { m.logprob = 0.5f; });
    refused_when(good, "top", [](TokenMessage& m) { m.top.resize(kMaxTopTokens + 1); });
    refused_when(good, "top.id", [](TokenMessage& m) { m.top[1].id = kMaxVocabSize; });
    refused_when(good, "top.logprob", [](TokenMessage& m) { m.top[1].logprob = kInfinity; });
    refused_when(good, "finish", [](TokenMessage& m) { m.finish = static_cast<Finish>(4); });
    refused_when(good, "finish", [](TokenMessage& m) { m.finish = Finish::none; });
    refused_when(good, "route", [](TokenMessage& m) { m.route.resize(kMaxHops + 1, m.route[0]); });

    TokenMessage forbidden = good;  // a token of probability zero among the alternatives
    forbidden.top[1].logprob = -kInfinity;
    CHECK(decode<TokenMessage>(encode(forbidden)));
  }
}

}  // namespace farmesh::wire
