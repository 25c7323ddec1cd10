// One message of each kind with every field set to something that is not its default.
#pragma once

#include <numeric>
#include <string>

#include "wire/messages.hpp"

namespace farmesh::test {

template <class Bytes>
void count_up(Bytes& bytes, int from) {
  std::iota(bytes.begin(), bytes.end(), static_cast<std::uint8_t>(from));
}

inline SessionId session_id(int from = 0x10) {
  SessionId id;
  count_up(id.bytes, from);
  return id;
}

inline std::vector<wire::Hop> two_hops() {
  return {{"10.0.0.2:31330", {11, 22}}, {"[::1]:31331", {22, 32}}};
}

inline std::vector<wire::HopTime> two_times() { return {{1, 2, 3}, {40'000, 50'000, 6}}; }

inline wire::Hello sample_hello() {
  wire::Hello hello;
  hello.min_version = 1;
  hello.max_version = 3;
  count_up(hello.node_id, 1);
  hello.software = "farmesh 0.1.0";
  hello.listen_address = "10.0.0.1:31330";
  wire::Service& service = hello.service;
  service.model_id = "meta-llama/Llama-2-7b-chat-hf";
  count_up(service.model_hash.bytes, 100);
  service.numerics_class = "bf16/exact-1/fma";
  service.span = {11, 22};
  service.head = true;
  service.num_layers = 32;
  service.hidden_size = 4096;
  service.vocab_size = 32'000;
  service.residual = DType::f32;
  service.page_tokens = 16;
  return hello;
}

inline wire::Open sample_open() {
  wire::Open open;
  open.session = session_id();
  open.epoch = 3;
  open.span = {11, 22};
  open.max_positions = 4096;
  count_up(open.model_hash.bytes, 100);
  open.numerics_class = "bf16/exact-1/fma";
  open.page_names.resize(2);
  count_up(open.page_names[0].bytes, 50);
  count_up(open.page_names[1].bytes, 70);
  open.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  open.grant = {9, 8, 7};
  open.prompt_positions = 33;
  open.activations = Activations::int8;
  return open;
}

inline wire::Step sample_step() {
  wire::Step step;
  step.session = session_id();
  step.epoch = 2;
  step.position = 511;
  step.count = 1;
  step.dtype = DType::bf16;
  step.want = wire::Want::all_rows;
  step.replay = true;
  step.budget_ms = 5'000;
  step.route = two_hops();
  step.times = two_times();
  return step;
}

inline wire::StepReply sample_step_reply() {
  wire::StepReply reply;
  reply.session = session_id();
  reply.epoch = 2;
  reply.position = 511;
  reply.count = 4;
  reply.rows = 1;
  reply.dtype = DType::f32;
  reply.replay = true;
  reply.times = two_times();
  return reply;
}

inline wire::Replay sample_replay() {
  wire::Replay replay;
  replay.session = session_id();
  replay.epoch = 4;
  replay.from = 16;
  replay.to = 512;
  replay.route = two_hops();
  return replay;
}

inline wire::ErrorMessage sample_error() {
  wire::ErrorMessage error;
  error.code = Errc::next_hop_lost;
  error.number = static_cast<std::uint16_t>(Errc::next_hop_lost);
  error.detail = "10.0.0.2:31330 did not answer";
  error.about_session = true;
  error.session = session_id();
  error.epoch = 2;
  error.position = 511;
  error.hop = "10.0.0.2:31330";
  return error;
}

inline wire::Generate sample_generate() {
  wire::Generate generate;
  generate.session = session_id();
  generate.prompt_tokens = 100;
  generate.emitted_tokens = 7;
  generate.max_tokens = 512;
  SamplingOptions& sampling = generate.sampling;
  sampling.temperature = 0.5f;
  sampling.top_k = 40;
  sampling.top_p = 0.95f;
  sampling.min_p = 0.05f;
  sampling.repetition_penalty = 1.1f;
  sampling.presence_penalty = -0.25f;
  sampling.frequency_penalty = 0.75f;
  sampling.logit_bias = {{13, -100.f}, {50'000, 2.5f}};
  sampling.seed = 0x0123456789abcdef;
  sampling.top_logprobs = 5;
  generate.stop_tokens = {2, 32'000};
  generate.peers = {"10.0.0.1:31330", "peer.example:31330"};
  return generate;
}

inline wire::TokenMessage sample_token() {
  wire::TokenMessage token;
  token.session = session_id();
  token.index = 6;
  token.id = 2'501;
  token.logprob = -0.125f;
  token.top = {{2'501, -0.125f}, {17, -3.5f}};
  token.finish = wire::Finish::length;
  token.has_token = false;
  token.route = two_hops();
  token.times = two_times();
  return token;
}

}  // namespace farmesh::test
