#include "wire/messages.hpp"

#include <doctest/doctest.h>

#include "unit/wire/samples.hpp"

namespace farmesh::wire {
namespace {

template <class Message>
Message round_trip(const Message& message) {
  const HeaderBytes header = encode(message);
  Result<Message> back = decode<Message>(header);
  REQUIRE_MESSAGE(back, back.error().to_string());
  CHECK(encode(*back) == header);
  return *back;
}

void check_same(const std::vector<Hop>& a, const std::vector<Hop>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].address == b[i].address);
    CHECK(a[i].span == b[i].span);
  }
}

void check_same(const std::vector<HopTime>& a, const std::vector<HopTime>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].queue_us == b[i].queue_us);
    CHECK(a[i].compute_us == b[i].compute_us);
    CHECK(a[i].batch_rows == b[i].batch_rows);
  }
}

template <class Message>
void survives_damage(const Message& message) {
  const HeaderBytes good = encode(message);
  for (std::size_t size = 0; size < good.size(); ++size) {
    const HeaderBytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    const Result<Message> back = decode<Message>(cut);
    if (!back) CHECK(back.error().code == Errc::bad_header);
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      HeaderBytes damaged = good;
      damaged[i] ^= static_cast<std::byte>(flip);
      const Result<Message> back = decode<Message>(damaged);
      if (!back) CHECK(back.error().code == Errc::bad_header);
    }
  }
}

}  // namespace

TEST_SUITE("wire/messages") {
  TEST_CASE("hello comes back whole") {
    const Hello sent = test::sample_hello();
    const Hello back = round_trip(sent);
    CHECK(back.min_version == sent.min_version);
    CHECK(back.max_version == sent.max_version);
    CHECK(back.node_id == sent.node_id);
    CHECK(back.software == sent.software);
    CHECK(back.listen_address == sent.listen_address);
    CHECK(back.service.model_id == sent.service.model_id);
    CHECK(back.service.model_hash == sent.service.model_hash);
    CHECK(back.service.numerics_class == sent.service.numerics_class);
    CHECK(back.service.span == sent.service.span);
    CHECK(back.service.head);
    CHECK(back.service.num_layers == sent.service.num_layers);
    CHECK(back.service.hidden_size == sent.service.hidden_size);
    CHECK(back.service.vocab_size == sent.service.vocab_size);
    CHECK(back.service.residual == sent.service.residual);
    CHECK(back.service.page_tokens == sent.service.page_tokens);
  }

  TEST_CASE("open and its reply come back whole") {
    const Open sent = test::sample_open();
    const Open back = round_trip(sent);
    CHECK(back.session == sent.session);
    CHECK(back.epoch == sent.epoch);
    CHECK(back.span == sent.span);
    CHECK(back.max_positions == sent.max_positions);
    CHECK(back.model_hash == sent.model_hash);
    CHECK(back.numerics_class == sent.numerics_class);
    CHECK(back.page_names == sent.page_names);
    CHECK(back.traceparent == sent.traceparent);
    CHECK(back.grant == sent.grant);
    CHECK(back.prompt_positions == sent.prompt_positions);

    const OpenReply reply = round_trip(OpenReply{1, 2, 3});
    CHECK(reply.held_positions == 1);
    CHECK(reply.window_steps == 2);
    CHECK(reply.max_step_rows == 3);
  }

  TEST_CASE("step and its reply come back whole") {
    const Step sent = test::sample_step();
    const Step back = round_trip(sent);
    CHECK(back.session == sent.session);
    CHECK(back.epoch == sent.epoch);
    CHECK(back.position == sent.position);
    CHECK(back.count == sent.count);
    CHECK(back.dtype == sent.dtype);
    CHECK(back.want == sent.want);
    CHECK(back.replay);
    CHECK(back.budget_ms == sent.budget_ms);
    check_same(back.route, sent.route);
    check_same(back.times, sent.times);

    const StepReply answer = test::sample_step_reply();
    const StepReply reply = round_trip(answer);
    CHECK(reply.session == answer.session);
    CHECK(reply.epoch == answer.epoch);
    CHECK(reply.position == answer.position);
    CHECK(reply.count == answer.count);
    CHECK(reply.rows == answer.rows);
    CHECK(reply.dtype == answer.dtype);
    CHECK(reply.replay);
    check_same(reply.times, answer.times);
  }

  TEST_CASE("what keeps a spare warm, and tells where rows are, comes back whole") {
    Step step = test::sample_step();
    step.route[0].standby = "10.0.0.9:31330";
    step.next_us = {1'500, 0};
    step.standby = true;
    step.groups = 4;
    const Step back = round_trip(step);
    CHECK(back.route[0].standby == "10.0.0.9:31330");
    CHECK(back.route[1].standby.empty());
    CHECK(back.next_us == step.next_us);
    CHECK(back.standby);
    CHECK(back.groups == 4);
    StepReply reply = test::sample_step_reply();
    reply.next_us = {7};
    reply.standby = true;
    CHECK(round_trip(reply).next_us == reply.next_us);
    CHECK(round_trip(reply).standby);
    const HistoryReply history = round_trip(HistoryReply{30, 10, 20, true, 35});
    CHECK(history.tells_received);
    CHECK(history.received == 35);
    CHECK_FALSE(round_trip(HistoryReply{30, 10, 20}).tells_received);
    step.next_us.assign(kMaxHops + 1, 1);
    CHECK(decode<Step>(encode(step)).error().code == Errc::bad_header);
    Generate generate = test::sample_generate();
    generate.warm_standby = true;
    generate.max_draft = 12;
    CHECK(round_trip(generate).warm_standby);
    CHECK(round_trip(generate).max_draft == 12);
  }

  TEST_CASE("truncate, replay, history and close come back whole") {
    const Truncate truncate = round_trip(Truncate{test::session_id(), 5, 100});
    CHECK(truncate.session == test::session_id());
    CHECK(truncate.epoch == 5);
    CHECK(truncate.position == 100);

    const Replay sent = test::sample_replay();
    const Replay replay = round_trip(sent);
    CHECK(replay.session == sent.session);
    CHECK(replay.epoch == sent.epoch);
    CHECK(replay.from == sent.from);
    CHECK(replay.to == sent.to);
    check_same(replay.route, sent.route);

    CHECK(round_trip(HistoryQuery{test::session_id()}).session == test::session_id());
    const HistoryReply history = round_trip(HistoryReply{30, 10, 20});
    CHECK(history.positions == 30);
    CHECK(history.stored_begin == 10);
    CHECK(history.stored_end == 20);
    const Close close = round_trip(Close{test::session_id(), 77});
    CHECK(close.session == test::session_id());
    CHECK(close.positions == 77);
  }

  TEST_CASE("ping and pong come back whole") {
    CHECK(round_trip(Ping{0x8000000000000001}).nonce == 0x8000000000000001);
    const Pong pong = round_trip(Pong{5, 6, 7, 8});
    CHECK(pong.nonce == 5);
    CHECK(pong.queued_rows == 6);
    CHECK(pong.free_pages == 7);
    CHECK(pong.sessions == 8);
  }

  TEST_CASE("an error comes back whole") {
    const ErrorMessage sent = test::sample_error();
    const ErrorMessage back = round_trip(sent);
    CHECK(back.code == sent.code);
    CHECK(back.number == sent.number);
    CHECK(back.detail == sent.detail);
    CHECK(back.about_session);
    CHECK(back.session == sent.session);
    CHECK(back.epoch == sent.epoch);
    CHECK(back.position == sent.position);
    CHECK(back.hop == sent.hop);
  }

  TEST_CASE("an error number of a later version is kept and passed on") {
    ErrorMessage sent = test::sample_error();
    sent.code = Errc::remote_unknown;
    sent.number = 9'999;
    const ErrorMessage back = round_trip(sent);
    CHECK(back.code == Errc::remote_unknown);
    CHECK(back.number == 9'999);
    sent.code = Errc::busy;  // a known code decides, whatever number is beside it
    CHECK(round_trip(sent).number == static_cast<std::uint16_t>(Errc::busy));
  }

  TEST_CASE("generate and token come back whole") {
    const Generate sent = test::sample_generate();
    const Generate back = round_trip(sent);
    CHECK(back.session == sent.session);
    CHECK(back.prompt_tokens == sent.prompt_tokens);
    CHECK(back.emitted_tokens == sent.emitted_tokens);
    CHECK(back.max_tokens == sent.max_tokens);
    CHECK(back.sampling.temperature == sent.sampling.temperature);
    CHECK(back.sampling.top_k == sent.sampling.top_k);
    CHECK(back.sampling.top_p == sent.sampling.top_p);
    CHECK(back.sampling.min_p == sent.sampling.min_p);
    CHECK(back.sampling.repetition_penalty == sent.sampling.repetition_penalty);
    CHECK(back.sampling.presence_penalty == sent.sampling.presence_penalty);
    CHECK(back.sampling.frequency_penalty == sent.sampling.frequency_penalty);
    REQUIRE(back.sampling.logit_bias.size() == 2);
    CHECK(back.sampling.logit_bias[1].token == 50'000);
    CHECK(back.sampling.logit_bias[1].bias == 2.5f);
    CHECK(back.sampling.seed == sent.sampling.seed);
    CHECK(back.sampling.top_logprobs == sent.sampling.top_logprobs);
    CHECK(back.stop_tokens == sent.stop_tokens);
    CHECK(back.peers == sent.peers);

    const TokenMessage token = test::sample_token();
    const TokenMessage told = round_trip(token);
    CHECK(told.session == token.session);
    CHECK(told.index == token.index);
    CHECK(told.id == token.id);
    CHECK(told.logprob == token.logprob);
    REQUIRE(told.top.size() == 2);
    CHECK(told.top[1].id == 17);
    CHECK(told.top[1].logprob == -3.5f);
    CHECK(told.finish == token.finish);
    CHECK(told.has_token == token.has_token);
    check_same(told.route, token.route);
    check_same(told.times, token.times);
  }

  TEST_CASE("messages with nothing but their defaults come back") {
    round_trip(Hello{});
    round_trip(Open{});
    round_trip(OpenReply{});
    round_trip(StepReply{});
    round_trip(Generate{});
    const TokenMessage token = round_trip(TokenMessage{});
    CHECK(token.has_token);
    Step step;
    step.count = 1;
    CHECK(round_trip(step).want == Want::last_row);
  }

  TEST_CASE("the largest message of each kind fits a header") {
    const std::string longest(kMaxTextField, 'x');
    const std::vector<Hop> route(kMaxHops, Hop{longest, {0, kMaxLayers}});
    const std::vector<HopTime> times(kMaxHops, HopTime{1, 2, 3});

    Open open = test::sample_open();
    open.numerics_class = open.traceparent = longest;
    open.page_names.resize(kMaxPageNames);
    open.grant.assign(kMaxGrantBytes, 1);
    CHECK(encode(open).size() <= kMaxHeaderBytes);
    round_trip(open);

    Step step = test::sample_step();
    step.count = kMaxStepRows;
    step.position = kMaxPosition - kMaxStepRows;
    step.route = route;
    step.times = times;
    CHECK(encode(step).size() <= kMaxHeaderBytes);
    round_trip(step);

    TokenMessage token = test::sample_token();
    token.top.resize(kMaxTopTokens);
    token.route = route;
    token.times = times;
    CHECK(encode(token).size() <= kMaxHeaderBytes);
    round_trip(token);

    Generate generate = test::sample_generate();
    generate.sampling.logit_bias.resize(kMaxLogitBias);
    generate.stop_tokens.resize(kMaxStopTokens);
    generate.peers.assign(kMaxPeers, longest);
    CHECK(encode(generate).size() <= kMaxHeaderBytes);
    round_trip(generate);
  }

  TEST_CASE("a header that is cut or damaged anywhere is refused or harmless") {
    survives_damage(test::sample_hello());
    survives_damage(test::sample_open());
    survives_damage(OpenReply{1, 2, 3});
    survives_damage(test::sample_step());
    survives_damage(test::sample_step_reply());
    survives_damage(Truncate{test::session_id(), 5, 100});
    survives_damage(test::sample_replay());
    survives_damage(HistoryQuery{test::session_id()});
    survives_damage(HistoryReply{30, 10, 20});
    survives_damage(Close{test::session_id()});
    survives_damage(Ping{1});
    survives_damage(Pong{5, 6, 7, 8});
    survives_damage(test::sample_error());
    survives_damage(test::sample_generate());
    survives_damage(test::sample_token());
  }

  TEST_CASE("a header of another verb is refused or harmless, never misread out of bounds") {
    const HeaderBytes hello = encode(test::sample_hello());
    CHECK_FALSE(decode<Open>(hello));
    CHECK_FALSE(decode<Step>(hello));
    CHECK_FALSE(decode<Generate>(hello));
    CHECK_FALSE(decode<TokenMessage>(hello));
    CHECK_FALSE(decode<Hello>(encode(test::sample_step())));
  }

  TEST_CASE("an empty header is refused by every verb but none is read") {
    CHECK(decode<Hello>({}).error().code == Errc::bad_header);
    CHECK(decode<Ping>({}).error().code == Errc::bad_header);
    CHECK(decode<Step>({}).error().code == Errc::bad_header);
  }

  TEST_CASE("text for people is cut and made printable on the way out") {
    ErrorMessage error = test::sample_error();
    error.detail = "line\nbreak \x1b[31m " + std::string(500, 'x');
    const Result<ErrorMessage> back = decode<ErrorMessage>(encode(error));
    REQUIRE(back);
    CHECK(back->detail.size() == kMaxTextField);
    CHECK(back->detail.starts_with("line?break ?[31m xxx"));

    Hello hello = test::sample_hello();
    hello.service.model_id = std::string(300, 'm');
    CHECK(decode<Hello>(encode(hello))->service.model_id.size() == kMaxTextField);
  }
}

}  // namespace farmesh::wire
