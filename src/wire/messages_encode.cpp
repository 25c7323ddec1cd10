#include <algorithm>

#include "farmesh_generated.h"
#include "wire/messages.hpp"
#include "wire/tables.hpp"
#include "wire/text.hpp"

namespace farmesh::wire {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// One builder a thread: after the first few messages, encoding allocates only the result.
FlatBufferBuilder& fresh_builder() {
  thread_local FlatBufferBuilder builder(1024);
  builder.Clear();
  return builder;
}

fb::Bytes16 packed_id(const SessionId& id) { return packed<fb::Bytes16>(id.bytes); }
fb::Bytes32 packed_id(const ModelHash& id) { return packed<fb::Bytes32>(id.bytes); }
fb::Span packed_span(Span span) { return {span.begin, span.end}; }

// Empty strings and vectors take no room.
Offset<flatbuffers::String> text(FlatBufferBuilder& builder, const std::string& value) {
  return value.empty() ? 0 : builder.CreateString(value);
}

using HopTimes = Offset<flatbuffers::Vector<const fb::HopTime*>>;
using Numbers = Offset<flatbuffers::Vector<std::uint32_t>>;
using Hops = Offset<flatbuffers::Vector<Offset<fb::Hop>>>;

HopTimes hop_times(FlatBufferBuilder& builder, const std::vector<HopTime>& times) {
  if (times.empty()) return 0;
  return builder.CreateVectorOfStructs<fb::HopTime>(
      times.size(), [&times](std::size_t i, fb::HopTime* out) {
        *out = fb::HopTime(times[i].queue_us, times[i].compute_us, times[i].batch_rows);
      });
}

Numbers numbers(FlatBufferBuilder& builder, const std::vector<std::uint32_t>& values) {
  return values.empty() ? Numbers(0) : builder.CreateVector(values);
}

Hops hops(FlatBufferBuilder& builder, const std::vector<Hop>& route) {
  if (route.empty()) return 0;
  std::vector<Offset<fb::Hop>> offsets;
  offsets.reserve(route.size());
  for (const Hop& hop : route) {
    const fb::Span span = packed_span(hop.span);
    const auto address = text(builder, hop.address);
    const auto standby = text(builder, hop.standby);
    offsets.push_back(fb::CreateHop(builder, address, &span, standby));
  }
  return builder.CreateVector(offsets);
}

Offset<fb::Service> service_table(FlatBufferBuilder& builder, const Service& service) {
  const auto model_id = text(builder, printable(service.model_id, kMaxTextField));
  const auto numerics = text(builder, service.numerics_class);
  const fb::Bytes32 hash = packed_id(service.model_hash);
  const fb::Span span = packed_span(service.span);
  return fb::CreateService(builder, model_id, &hash, numerics, &span, service.head,
                           service.num_layers, service.hidden_size, service.vocab_size,
                           static_cast<std::uint8_t>(service.residual), service.page_tokens);
}

Offset<fb::Sampling> sampling_table(FlatBufferBuilder& builder, const SamplingOptions& options) {
  Offset<flatbuffers::Vector<const fb::LogitBias*>> bias;
  if (!options.logit_bias.empty()) {
    bias = builder.CreateVectorOfStructs<fb::LogitBias>(
        options.logit_bias.size(), [&options](std::size_t i, fb::LogitBias* out) {
          *out = fb::LogitBias(options.logit_bias[i].token, options.logit_bias[i].bias);
        });
  }
  return fb::CreateSampling(builder, options.temperature, options.top_k, options.top_p,
                            options.min_p, options.repetition_penalty, options.presence_penalty,
                            options.frequency_penalty, bias, options.seed, options.top_logprobs);
}

}  // namespace

HeaderBytes encode(const Hello& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto service = service_table(builder, message.service);
  const auto software = text(builder, printable(message.software, kMaxTextField));
  const auto listen = text(builder, message.listen_address);
  Offset<flatbuffers::Vector<std::uint8_t>> join;
  if (!message.join.empty()) join = builder.CreateVector(message.join);
  const auto node_id = packed<fb::Bytes32>(message.node_id);
  return finished(builder, fb::CreateHello(builder, message.min_version, message.max_version,
                                           &node_id, software, listen, service, join));
}

HeaderBytes encode(const Open& message) {
  FlatBufferBuilder& builder = fresh_builder();
  Offset<flatbuffers::Vector<const fb::Bytes16*>> names;
  if (!message.page_names.empty()) {
    names = builder.CreateVectorOfStructs<fb::Bytes16>(
        message.page_names.size(), [&message](std::size_t i, fb::Bytes16* out) {
          *out = packed<fb::Bytes16>(message.page_names[i].bytes);
        });
  }
  const auto numerics = text(builder, message.numerics_class);
  const auto trace = text(builder, message.traceparent);
  Offset<flatbuffers::Vector<std::uint8_t>> grant;
  if (!message.grant.empty()) grant = builder.CreateVector(message.grant);
  const fb::Bytes16 session = packed_id(message.session);
  const fb::Span span = packed_span(message.span);
  const fb::Bytes32 hash = packed_id(message.model_hash);
  return finished(
      builder, fb::CreateOpen(builder, &session, message.epoch, &span, message.max_positions, &hash,
                              numerics, names, trace, grant, message.prompt_positions,
                              static_cast<std::uint8_t>(message.activations)));
}

HeaderBytes encode(const OpenReply& message) {
  FlatBufferBuilder& builder = fresh_builder();
  return finished(builder, fb::CreateOpenReply(builder, message.held_positions,
                                               message.window_steps, message.max_step_rows,
                                               static_cast<std::uint8_t>(message.activations)));
}

HeaderBytes encode(const Step& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto route = hops(builder, message.route);
  const auto times = hop_times(builder, message.times);
  const auto next = numbers(builder, message.next_us);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateStep(builder, &session, message.epoch, message.position,
                                          message.count, static_cast<std::uint8_t>(message.dtype),
                                          static_cast<std::uint8_t>(message.want), message.replay,
                                          message.budget_ms, route, times, next, message.standby,
                                          message.groups));
}

HeaderBytes encode(const StepReply& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto times = hop_times(builder, message.times);
  const auto next = numbers(builder, message.next_us);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateStepReply(builder, &session, message.epoch, message.position,
                                               message.count, message.rows,
                                               static_cast<std::uint8_t>(message.dtype),
                                               message.replay, times, next, message.standby));
}

HeaderBytes encode(const Truncate& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateTruncate(builder, &session, message.epoch, message.position));
}

HeaderBytes encode(const Replay& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto route = hops(builder, message.route);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(
      builder, fb::CreateReplay(builder, &session, message.epoch, message.from, message.to, route));
}

HeaderBytes encode(const HistoryQuery& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateHistoryQuery(builder, &session));
}

HeaderBytes encode(const HistoryReply& message) {
  FlatBufferBuilder& builder = fresh_builder();
  return finished(builder, fb::CreateHistoryReply(builder, message.positions, message.stored_begin,
                                                  message.stored_end, message.tells_received,
                                                  message.received));
}

HeaderBytes encode(const Close& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateClose(builder, &session, message.positions));
}

HeaderBytes encode(const Ping& message) {
  FlatBufferBuilder& builder = fresh_builder();
  return finished(builder, fb::CreatePing(builder, message.nonce));
}

HeaderBytes encode(const Pong& message) {
  FlatBufferBuilder& builder = fresh_builder();
  return finished(builder, fb::CreatePong(builder, message.nonce, message.queued_rows,
                                          message.free_pages, message.sessions));
}

HeaderBytes encode(const ErrorMessage& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto detail = text(builder, printable(message.detail, kMaxTextField));
  const auto hop = text(builder, message.hop);
  // A number this build does not know travels on as it came.
  const bool keep = message.code == Errc::remote_unknown && message.number != 0;
  const std::uint16_t number = keep ? message.number : static_cast<std::uint16_t>(message.code);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateError(builder, number, detail, message.about_session, &session,
                                           message.epoch, message.position, hop));
}

HeaderBytes encode(const Generate& message) {
  FlatBufferBuilder& builder = fresh_builder();
  const auto sampling = sampling_table(builder, message.sampling);
  Offset<flatbuffers::Vector<std::uint32_t>> stops;
  if (!message.stop_tokens.empty()) stops = builder.CreateVector(message.stop_tokens);
  Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> peers;
  if (!message.peers.empty()) peers = builder.CreateVectorOfStrings(message.peers);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(builder, fb::CreateGenerate(builder, &session, message.prompt_tokens,
                                              message.emitted_tokens, message.max_tokens, sampling,
                                              stops, peers, message.warm_standby, message.max_draft,
                                              static_cast<std::uint8_t>(message.activations)));
}

HeaderBytes encode(const TokenMessage& message) {
  FlatBufferBuilder& builder = fresh_builder();
  Offset<flatbuffers::Vector<const fb::TopToken*>> top;
  if (!message.top.empty()) {
    top = builder.CreateVectorOfStructs<fb::TopToken>(
        message.top.size(), [&message](std::size_t i, fb::TopToken* out) {
          *out = fb::TopToken(message.top[i].id, message.top[i].logprob);
        });
  }
  const auto route = hops(builder, message.route);
  const auto times = hop_times(builder, message.times);
  const fb::Bytes16 session = packed_id(message.session);
  return finished(
      builder, fb::CreateToken(builder, &session, message.index, message.id, message.logprob, top,
                               static_cast<std::uint8_t>(message.finish), message.has_token, route,
                               times, message.numerics_changed));
}

}  // namespace farmesh::wire
