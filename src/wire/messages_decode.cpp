#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "farmesh_generated.h"
#include "wire/messages.hpp"
#include "wire/tables.hpp"
#include "wire/text.hpp"

namespace farmesh::wire {
namespace {

/// Copies fields out of a verified table and remembers the first bound that did not hold.
class Reader {
 public:
  explicit Reader(std::string_view table) : table_(table) {}

  void require(bool holds, std::string_view what) {
    if (!holds && failed_.empty()) failed_ = what;
  }

  std::uint32_t at_most(std::uint32_t value, std::uint32_t max, std::string_view field) {
    require(value <= max, field);
    return value;
  }

  template <class Enum>
  Enum enumerator(std::uint8_t value, Enum last, std::string_view field) {
    require(value <= static_cast<std::uint8_t>(last), field);
    return static_cast<Enum>(value);
  }

  float finite(float value, std::string_view field) { return within(value, -1e6f, 1e6f, field); }

  /// False for NaN as well.
  float within(float value, float min, float max, std::string_view field) {
    require(value >= min && value <= max, field);
    return value;
  }

  /// Minus infinity is the logarithm of zero; nothing is likelier than certain, but for rounding.
  float logprob(float value, std::string_view field) {
    require(value <= 1e-3f, field);
    return value;
  }

  template <class Id, class Packed>
  Id id(const Packed* packed, std::string_view field) {
    Id out;
    require(packed != nullptr, field);
    if (packed != nullptr) copy_bytes(*packed, out.bytes);
    return out;
  }

  template <class Packed, class Bytes>
  void copy_bytes(const Packed& packed, Bytes& out) {
    static_assert(sizeof(Packed) == sizeof out);
    std::memcpy(out.data(), &packed, sizeof out);
  }

  Span span(const fb::Span* packed, std::string_view field) {
    if (packed == nullptr) return {};
    require(packed->begin() <= packed->end() && packed->end() <= kMaxLayers, field);
    return {packed->begin(), packed->end()};
  }

  std::string text(const flatbuffers::String* value, std::string_view field) {
    if (value == nullptr) return {};
    const std::string_view view(value->c_str(), value->size());
    require(view.size() <= kMaxTextField && is_printable(view), field);
    return failed_.empty() ? std::string(view) : std::string();
  }

  /// Calls `take(element)` for each element of a vector that may be absent.
  template <class Vector, class Take>
  void each(const Vector* elements, std::size_t max, std::string_view field, const Take& take) {
    if (elements == nullptr) return;
    require(elements->size() <= max, field);
    if (!failed_.empty()) return;
    for (const auto element : *elements) take(element);
  }

  std::vector<Hop> route(const flatbuffers::Vector<flatbuffers::Offset<fb::Hop>>* hops) {
    std::vector<Hop> route;
    each(hops, kMaxHops, "route", [&](const fb::Hop* hop) {
      route.push_back({text(hop->address(), "route.address"), span(hop->span(), "route.span"),
                       text(hop->standby(), "route.standby")});
      require(!route.back().address.empty(), "route.address");
    });
    return route;
  }

  std::vector<std::uint32_t> numbers(const flatbuffers::Vector<std::uint32_t>* packed,
                                     std::size_t max, std::string_view field) {
    std::vector<std::uint32_t> values;
    each(packed, max, field, [&](std::uint32_t value) { values.push_back(value); });
    return values;
  }

  std::vector<HopTime> times(const flatbuffers::Vector<const fb::HopTime*>* packed) {
    std::vector<HopTime> times;
    each(packed, kMaxHops, "times", [&](const fb::HopTime* time) {
      times.push_back({time->queue_us(), time->compute_us(), time->batch_rows()});
    });
    return times;
  }

  template <class Message>
  Result<Message> result(Message message) const {
    if (failed_.empty()) return message;
    return Error{Errc::bad_header,
                 std::string(table_) + "." + std::string(failed_) + " is out of bounds"};
  }

 private:
  std::string_view table_;
  std::string_view failed_;
};

Error unverified(std::string_view table) {
  return {Errc::bad_header, std::string(table) + ": header does not match its schema"};
}

Service read_service(Reader& in, const fb::Service& table) {
  Service service;
  service.model_id = in.text(table.model_id(), "model_id");
  if (table.model_hash() != nullptr) {
    in.copy_bytes(*table.model_hash(), service.model_hash.bytes);
  }
  service.numerics_class = in.text(table.numerics_class(), "numerics_class");
  service.num_layers = in.at_most(table.num_layers(), kMaxLayers, "num_layers");
  service.span = in.span(table.span(), "span");
  in.require(service.span.end <= service.num_layers, "span");
  service.head = table.head();
  service.hidden_size = in.at_most(table.hidden_size(), kMaxHiddenSize, "hidden_size");
  service.vocab_size = in.at_most(table.vocab_size(), kMaxVocabSize, "vocab_size");
  service.residual = in.enumerator(table.residual(), DType::u32, "residual");
  service.page_tokens = in.at_most(table.page_tokens(), kMaxPosition, "page_tokens");
  return service;
}

SamplingOptions read_sampling(Reader& in, const fb::Sampling& table) {
  SamplingOptions options;
  options.temperature = in.within(table.temperature(), 0, 1e6f, "temperature");
  options.top_k = table.top_k();
  options.top_p = in.within(table.top_p(), 0, 1, "top_p");
  options.min_p = in.within(table.min_p(), 0, 1, "min_p");
  options.repetition_penalty = in.finite(table.repetition_penalty(), "repetition_penalty");
  in.require(options.repetition_penalty > 0, "repetition_penalty");
  options.presence_penalty = in.finite(table.presence_penalty(), "presence_penalty");
  options.frequency_penalty = in.finite(table.frequency_penalty(), "frequency_penalty");
  in.each(table.logit_bias(), kMaxLogitBias, "logit_bias", [&](const fb::LogitBias* bias) {
    options.logit_bias.push_back({bias->token(), in.finite(bias->bias(), "logit_bias")});
  });
  options.seed = table.seed();
  options.top_logprobs = in.at_most(table.top_logprobs(), kMaxTopTokens, "top_logprobs");
  return options;
}

}  // namespace

template <>
Result<Hello> decode<Hello>(ByteView header) {
  const auto* table = verified<fb::Hello>(header);
  if (table == nullptr) return unverified("hello");
  Reader in("hello");
  Hello message;
  message.min_version = table->min_version();
  message.max_version = table->max_version();
  in.require(message.min_version >= 1 && message.min_version <= message.max_version, "version");
  in.require(table->node_id() != nullptr, "node_id");
  if (table->node_id() != nullptr) in.copy_bytes(*table->node_id(), message.node_id);
  message.software = in.text(table->software(), "software");
  message.listen_address = in.text(table->listen_address(), "listen_address");
  if (table->service() != nullptr) message.service = read_service(in, *table->service());
  in.each(table->join(), kMaxJoinBytes, "join",
          [&](std::uint8_t byte) { message.join.push_back(byte); });
  return in.result(std::move(message));
}

template <>
Result<Open> decode<Open>(ByteView header) {
  const auto* table = verified<fb::Open>(header);
  if (table == nullptr) return unverified("open");
  Reader in("open");
  Open message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.epoch = table->epoch();
  message.span = in.span(table->span(), "span");
  message.max_positions = in.at_most(table->max_positions(), kMaxPosition, "max_positions");
  message.model_hash = in.id<ModelHash>(table->model_hash(), "model_hash");
  message.numerics_class = in.text(table->numerics_class(), "numerics_class");
  in.each(table->page_names(), kMaxPageNames, "page_names", [&](const fb::Bytes16* name) {
    in.copy_bytes(*name, message.page_names.emplace_back().bytes);
  });
  message.traceparent = in.text(table->traceparent(), "traceparent");
  in.each(table->grant(), kMaxGrantBytes, "grant",
          [&](std::uint8_t byte) { message.grant.push_back(byte); });
  message.prompt_positions =
      in.at_most(table->prompt_positions(), kMaxPosition, "prompt_positions");
  message.activations = in.enumerator(table->activations(), Activations::int8, "activations");
  return in.result(std::move(message));
}

template <>
Result<OpenReply> decode<OpenReply>(ByteView header) {
  const auto* table = verified<fb::OpenReply>(header);
  if (table == nullptr) return unverified("open reply");
  Reader in("open reply");
  OpenReply message;
  message.held_positions = in.at_most(table->held_positions(), kMaxPosition, "held_positions");
  message.window_steps = table->window_steps();
  message.max_step_rows = in.at_most(table->max_step_rows(), kMaxStepRows, "max_step_rows");
  message.activations = in.enumerator(table->activations(), Activations::int8, "activations");
  return in.result(std::move(message));
}

template <>
Result<Step> decode<Step>(ByteView header) {
  const auto* table = verified<fb::Step>(header);
  if (table == nullptr) return unverified("step");
  Reader in("step");
  Step message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.epoch = table->epoch();
  message.position = in.at_most(table->position(), kMaxPosition, "position");
  message.count = in.at_most(table->count(), kMaxStepRows, "count");
  in.require(message.count > 0, "count");
  in.require(message.position + message.count <= kMaxPosition, "position");
  message.dtype = in.enumerator(table->dtype(), DType::u32, "dtype");
  message.want = in.enumerator(table->want(), Want::all_rows, "want");
  message.replay = table->replay();
  message.budget_ms = table->budget_ms();
  message.route = in.route(table->route());
  message.times = in.times(table->times());
  message.next_us = in.numbers(table->next_us(), kMaxHops, "next_us");
  message.standby = table->standby();
  message.groups = table->groups();
  return in.result(std::move(message));
}

template <>
Result<StepReply> decode<StepReply>(ByteView header) {
  const auto* table = verified<fb::StepReply>(header);
  if (table == nullptr) return unverified("step reply");
  Reader in("step reply");
  StepReply message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.epoch = table->epoch();
  message.position = in.at_most(table->position(), kMaxPosition, "position");
  message.count = in.at_most(table->count(), kMaxStepRows, "count");
  in.require(message.position + message.count <= kMaxPosition, "position");
  message.rows = in.at_most(table->rows(), message.count, "rows");
  message.dtype = in.enumerator(table->dtype(), DType::u32, "dtype");
  message.replay = table->replay();
  message.times = in.times(table->times());
  message.next_us = in.numbers(table->next_us(), kMaxHops, "next_us");
  message.standby = table->standby();
  return in.result(std::move(message));
}

template <>
Result<Truncate> decode<Truncate>(ByteView header) {
  const auto* table = verified<fb::Truncate>(header);
  if (table == nullptr) return unverified("truncate");
  Reader in("truncate");
  Truncate message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.epoch = table->epoch();
  message.position = in.at_most(table->position(), kMaxPosition, "position");
  return in.result(std::move(message));
}

template <>
Result<Replay> decode<Replay>(ByteView header) {
  const auto* table = verified<fb::Replay>(header);
  if (table == nullptr) return unverified("replay");
  Reader in("replay");
  Replay message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.epoch = table->epoch();
  message.to = in.at_most(table->to(), kMaxPosition, "to");
  message.from = in.at_most(table->from(), message.to, "from");
  message.route = in.route(table->route());
  return in.result(std::move(message));
}

template <>
Result<HistoryQuery> decode<HistoryQuery>(ByteView header) {
  const auto* table = verified<fb::HistoryQuery>(header);
  if (table == nullptr) return unverified("history");
  Reader in("history");
  HistoryQuery message;
  message.session = in.id<SessionId>(table->session(), "session");
  return in.result(message);
}

template <>
Result<HistoryReply> decode<HistoryReply>(ByteView header) {
  const auto* table = verified<fb::HistoryReply>(header);
  if (table == nullptr) return unverified("history reply");
  Reader in("history reply");
  HistoryReply message;
  message.positions = in.at_most(table->positions(), kMaxPosition, "positions");
  message.stored_end = in.at_most(table->stored_end(), kMaxPosition, "stored_end");
  message.stored_begin = in.at_most(table->stored_begin(), message.stored_end, "stored_begin");
  message.tells_received = table->tells_received();
  message.received = in.at_most(table->received(), kMaxPosition, "received");
  return in.result(message);
}

template <>
Result<Close> decode<Close>(ByteView header) {
  const auto* table = verified<fb::Close>(header);
  if (table == nullptr) return unverified("close");
  Reader in("close");
  Close message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.positions = in.at_most(table->positions(), kMaxPosition, "positions");
  return in.result(message);
}

template <>
Result<Ping> decode<Ping>(ByteView header) {
  const auto* table = verified<fb::Ping>(header);
  if (table == nullptr) return unverified("ping");
  return Ping{table->nonce()};
}

template <>
Result<Pong> decode<Pong>(ByteView header) {
  const auto* table = verified<fb::Pong>(header);
  if (table == nullptr) return unverified("pong");
  return Pong{table->nonce(), table->queued_rows(), table->free_pages(), table->sessions()};
}

template <>
Result<ErrorMessage> decode<ErrorMessage>(ByteView header) {
  const auto* table = verified<fb::Error>(header);
  if (table == nullptr) return unverified("error");
  Reader in("error");
  ErrorMessage message;
  message.number = table->number();
  in.require(message.number != 0, "number");
  message.code = errc_from_number(message.number);
  message.detail = in.text(table->detail(), "detail");
  message.about_session = table->about_session();
  in.require(!message.about_session || table->session() != nullptr, "session");
  if (table->session() != nullptr) in.copy_bytes(*table->session(), message.session.bytes);
  message.epoch = table->epoch();
  message.position = in.at_most(table->position(), kMaxPosition, "position");
  message.hop = in.text(table->hop(), "hop");
  return in.result(std::move(message));
}

template <>
Result<Generate> decode<Generate>(ByteView header) {
  const auto* table = verified<fb::Generate>(header);
  if (table == nullptr) return unverified("generate");
  Reader in("generate");
  Generate message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.prompt_tokens = in.at_most(table->prompt_tokens(), kMaxPosition, "prompt_tokens");
  message.emitted_tokens =
      in.at_most(table->emitted_tokens(), message.prompt_tokens, "emitted_tokens");
  message.max_tokens = in.at_most(table->max_tokens(), kMaxPosition, "max_tokens");
  in.require(table->sampling() != nullptr, "sampling");
  if (table->sampling() != nullptr) message.sampling = read_sampling(in, *table->sampling());
  in.each(table->stop_tokens(), kMaxStopTokens, "stop_tokens",
          [&](TokenId token) { message.stop_tokens.push_back(token); });
  in.each(table->peers(), kMaxPeers, "peers", [&](const flatbuffers::String* address) {
    message.peers.push_back(in.text(address, "peers"));
    in.require(!message.peers.back().empty(), "peers");
  });
  message.warm_standby = table->warm_standby();
  message.max_draft = in.at_most(table->max_draft(), kMaxStepRows, "max_draft");
  message.activations = in.enumerator(table->activations(), Activations::int8, "activations");
  return in.result(std::move(message));
}

template <>
Result<TokenMessage> decode<TokenMessage>(ByteView header) {
  const auto* table = verified<fb::Token>(header);
  if (table == nullptr) return unverified("token");
  Reader in("token");
  TokenMessage message;
  message.session = in.id<SessionId>(table->session(), "session");
  message.index = in.at_most(table->index(), kMaxPosition, "index");
  message.id = in.at_most(table->id(), kMaxVocabSize - 1, "id");
  message.logprob = in.logprob(table->logprob(), "logprob");
  in.each(table->top(), kMaxTopTokens, "top", [&](const fb::TopToken* top) {
    message.top.push_back({in.at_most(top->id(), kMaxVocabSize - 1, "top.id"),
                           in.logprob(top->logprob(), "top.logprob")});
  });
  message.finish = in.enumerator(table->finish(), Finish::cancelled, "finish");
  message.has_token = table->has_token();
  in.require(message.has_token || message.finish != Finish::none, "finish");
  message.route = in.route(table->route());
  message.times = in.times(table->times());
  message.numerics_changed = table->numerics_changed();
  return in.result(std::move(message));
}

}  // namespace farmesh::wire
