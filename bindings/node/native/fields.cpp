#include "fields.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

void read_seed(const Fields& fields, std::optional<std::uint64_t>& seed) {
  const Napi::Value value = fields.object().Get("seed");
  if (value.IsUndefined()) return;
  if (value.IsBigInt()) {
    bool lossless = false;
    seed = std::uint64_t(value.As<Napi::BigInt>().Int64Value(&lossless));
    if (!lossless) fields.refuse("seed", "of at most 64 bits");
    return;
  }
  std::int64_t whole = 0;
  fields.read_whole("seed", whole);
  seed = std::uint64_t(whole);
}

void read_biases(const Fields& fields, std::vector<LogitBias>& biases) {
  const Napi::Value value = fields.object().Get("logitBias");
  if (value.IsUndefined()) return;
  if (!value.IsObject()) fields.refuse("logitBias", "an object");
  const auto object = value.As<Napi::Object>();
  const Napi::Array keys = object.GetPropertyNames();
  for (std::uint32_t i = 0; i < keys.Length(); ++i) {
    const Napi::Value key = keys[i];
    const Napi::Value bias = object.Get(key);
    const double token = key.ToNumber();
    if (!(token >= 0 && token <= UINT32_MAX) || token != std::floor(token) || !bias.IsNumber()) {
      fields.refuse("logitBias", "token ids and numbers");
    }
    biases.push_back({std::uint32_t(token), bias.As<Napi::Number>().FloatValue()});
  }
}

}  // namespace

void Fields::read(const char* name, std::vector<std::string>& field) const {
  const char* const wanted = "an array of strings";
  const auto value = given(name, &Napi::Value::IsArray, wanted);
  if (!value) return;
  const auto array = value->As<Napi::Array>();
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value each = array[i];
    if (!each.IsString()) refuse(name, wanted);
    field.push_back(each.As<Napi::String>());
  }
}

void Fields::read(const char* name, std::optional<Precision>& precision) const {
  std::string wanted;
  read(name, wanted);
  if (wanted.empty()) return;
  for (const Precision each :
       {Precision::f32, Precision::bf16, Precision::f16, Precision::int8, Precision::int4}) {
    if (farmesh::name(each) == wanted) precision = each;
  }
  if (!precision) refuse(name, "f32, bf16, f16, int8 or int4");
}

AskOptions ask_options(const Napi::Value& given) {
  const Fields fields(given);
  AskOptions options;
  SamplingOptions& sampling = options.sampling;
  fields.read("model", options.model);
  fields.read_whole("maxTokens", options.max_tokens);
  fields.read("temperature", sampling.temperature);
  fields.read("topP", sampling.top_p);
  fields.read_whole("topK", sampling.top_k);
  fields.read("minP", sampling.min_p);
  fields.read("repetitionPenalty", sampling.repetition_penalty);
  fields.read("presencePenalty", sampling.presence_penalty);
  fields.read("frequencyPenalty", sampling.frequency_penalty);
  read_biases(fields, sampling.logit_bias);
  read_seed(fields, options.seed);
  fields.read("stop", options.stop);
  fields.read("ignoreEos", options.ignore_eos);
  std::string cost;
  fields.read("maxCostFar", cost);
  if (!cost.empty()) {
    options.max_cost = Far::parse(cost);
    if (!options.max_cost) fields.refuse("maxCostFar", "an amount of $FAR");
  }
  return options;
}

}  // namespace farlabs
