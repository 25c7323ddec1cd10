// Mesh: the calls of a FarMesh. Options come as src/native.ts writes them.
#include <cmath>
#include <string>
#include <vector>

#include <farmesh/farmesh.hpp>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

/// The fields of an object of options, each with the type it must have.
class Fields {
 public:
  explicit Fields(const Napi::Value& value) : object_(value.As<Napi::Object>()) {}

  void read(const char* name, std::string& field) const {
    const Napi::Value value = object_.Get(name);
    if (value.IsUndefined()) return;
    if (!value.IsString()) refuse(name, "a string");
    field = value.As<Napi::String>();
  }
  void read(const char* name, bool& field) const {
    const Napi::Value value = object_.Get(name);
    if (value.IsUndefined()) return;
    if (!value.IsBoolean()) refuse(name, "a boolean");
    field = value.As<Napi::Boolean>();
  }
  void read(const char* name, std::vector<std::string>& field) const {
    const Napi::Value value = object_.Get(name);
    if (value.IsUndefined()) return;
    if (!value.IsArray()) refuse(name, "an array of strings");
    const auto array = value.As<Napi::Array>();
    for (std::uint32_t i = 0; i < array.Length(); ++i) {
      const Napi::Value each = array[i];
      if (!each.IsString()) refuse(name, "an array of strings");
      field.push_back(each.As<Napi::String>());
    }
  }
  void read(const char* name, float& field) const {
    double value = field;
    if (number(name, value)) field = float(value);
  }
  template <class Integer>
  void read_whole(const char* name, Integer& field) const {
    double value = 0;
    if (!number(name, value)) return;
    if (value != std::floor(value) || value < double(std::numeric_limits<Integer>::min()) ||
        value > double(std::numeric_limits<Integer>::max())) {
      refuse(name, "a whole number in its bounds");
    }
    field = Integer(value);
  }
  void read(const char* name, std::chrono::milliseconds& field) const {
    std::int32_t value = 0;
    if (object_.Get(name).IsUndefined()) return;
    read_whole(name, value);
    field = std::chrono::milliseconds(value);
  }
  void read_seed(std::optional<std::uint64_t>& seed) const {
    const Napi::Value value = object_.Get("seed");
    if (value.IsUndefined()) return;
    if (value.IsBigInt()) {
      bool lossless = false;
      seed = std::uint64_t(value.As<Napi::BigInt>().Int64Value(&lossless));
      if (!lossless) refuse("seed", "of at most 64 bits");
      return;
    }
    std::int64_t whole = 0;
    read_whole("seed", whole);
    seed = std::uint64_t(whole);
  }
  void read_biases(std::vector<LogitBias>& biases) const {
    const Napi::Value value = object_.Get("logitBias");
    if (value.IsUndefined()) return;
    if (!value.IsObject()) refuse("logitBias", "an object");
    const auto object = value.As<Napi::Object>();
    const Napi::Array keys = object.GetPropertyNames();
    for (std::uint32_t i = 0; i < keys.Length(); ++i) {
      const Napi::Value key = keys[i];
      const Napi::Value bias = object.Get(key);
      const double token = key.ToNumber();
      if (!(token >= 0 && token <= UINT32_MAX) || token != std::floor(token) || !bias.IsNumber()) {
        refuse("logitBias", "token ids and numbers");
      }
      biases.push_back({std::uint32_t(token), bias.As<Napi::Number>().FloatValue()});
    }
  }

  [[noreturn]] void refuse(const char* name, const char* wanted) const {
    throw Napi::TypeError::New(object_.Env(), std::string(name) + " must be " + wanted);
  }

 private:
  bool number(const char* name, double& field) const {
    const Napi::Value value = object_.Get(name);
    if (value.IsUndefined()) return false;
    if (!value.IsNumber()) refuse(name, "a number");
    field = value.As<Napi::Number>();
    return true;
  }

  const Napi::Object object_;
};

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
  fields.read_biases(sampling.logit_bias);
  fields.read_seed(options.seed);
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

Napi::Value told(Napi::Env env, const std::vector<MeshModel>& models) {
  Napi::Array rows = Napi::Array::New(env);
  for (const MeshModel& model : models) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("modelId", model.model_id);
    row.Set("activeNodes", model.active_nodes);
    row.Set("pricePerTokenFar", model.price_per_token.to_string());
    row.Set("available", model.available);
    rows.Set(rows.Length(), row);
  }
  return rows;
}

Napi::Value told(Napi::Env env, const MeshStatus& status) {
  Napi::Object row = Napi::Object::New(env);
  row.Set("modelId", status.model_id);
  row.Set("activeNodes", status.active_nodes);
  row.Set("activeSessions", status.active_sessions);
  row.Set("pricePerTokenFar", status.price_per_token.to_string());
  row.Set("connected", status.connected);
  return row;
}

Napi::Value told(Napi::Env env, const MeshEarnings& earned) {
  Napi::Array history = Napi::Array::New(env);
  for (const DailyEarning& day : earned.history) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("date", day.date);
    row.Set("amountFar", day.amount.to_string());
    history.Set(history.Length(), row);
  }
  Napi::Object row = Napi::Object::New(env);
  row.Set("walletAddress", earned.wallet);
  row.Set("totalEarnedFar", earned.total.to_string());
  row.Set("pendingPayoutFar", earned.pending.to_string());
  row.Set("totalTokensServed", double(earned.tokens_served));
  row.Set("activeNodes", earned.active_nodes);
  row.Set("avgUptimePercent", earned.avg_uptime_percent);
  row.Set("history", history);
  return row;
}

class Mesh final : public Napi::ObjectWrap<Mesh> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Mesh",
        {StaticMethod("connect", &Mesh::connect), StaticMethod("open", &Mesh::open),
         InstanceMethod("generate", &Mesh::generate), InstanceMethod("chat", &Mesh::chat),
         InstanceMethod("models", &Mesh::models), InstanceMethod("status", &Mesh::status),
         InstanceMethod("earnings", &Mesh::earnings)});
  }

  explicit Mesh(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "a Mesh is made by connect() or open()");
    }
    mesh_ = std::make_shared<FarMesh>(std::move(*info[0].As<Napi::External<FarMesh>>().Data()));
  }

 private:
  static Napi::Object make(Napi::Env env, FarMesh mesh) {
    return env.GetInstanceData<Addon>()->mesh.New({Napi::External<FarMesh>::New(env, &mesh)});
  }

  static Napi::Value connect(const Napi::CallbackInfo& info) {
    const Fields fields(info[0]);
    ConnectOptions options;
    fields.read("apiKey", options.api_key);
    fields.read("baseUrl", options.base_url);
    fields.read("model", options.model);
    fields.read("timeout", options.timeout);
    fields.read_whole("maxRetries", options.max_retries);
    fields.read("caFile", options.ca_file);
    return make(info.Env(), value_of(info.Env(), FarMesh::connect(options)));
  }

  static Napi::Value open(const Napi::CallbackInfo& info) {
    const Fields fields(info[0]);
    ModelOptions options;
    fields.read("model", options.folder);
    fields.read("bootstrap", options.discovery.bootstrap);
    fields.read("peers", options.peers);
    fields.read("local", options.local);
    fields.read("remoteHead", options.remote_head);
    fields.read_whole("threads", options.threads);
    fields.read("joinTokenFile", options.identity.join_token_file);
    return Work<FarMesh>::start(
        info.Env(), [options] { return FarMesh::open(options); },
        [](Napi::Env env, FarMesh mesh) { return make(env, std::move(mesh)); });
  }

  Napi::Value generate(const Napi::CallbackInfo& info) {
    const std::string prompt = info[0].As<Napi::String>();
    return make_stream(info.Env(), mesh_->generate(prompt, ask_options(info[1])));
  }

  Napi::Value chat(const Napi::CallbackInfo& info) {
    const auto given = info[0].As<Napi::Array>();
    std::vector<ChatMessage> messages;
    for (std::uint32_t i = 0; i < given.Length(); ++i) {
      const Napi::Value each = given[i];
      if (!each.IsObject()) throw Napi::TypeError::New(info.Env(), "a message must be an object");
      const Fields fields(each);
      ChatMessage& message = messages.emplace_back();
      fields.read("role", message.role);
      fields.read("content", message.content);
    }
    return make_stream(info.Env(), mesh_->chat(messages, ask_options(info[1])));
  }

  Napi::Value models(const Napi::CallbackInfo& info) {
    using Models = std::vector<MeshModel>;
    return Work<Models>::start(
        info.Env(), [mesh = mesh_] { return mesh->models(); },
        [](Napi::Env env, const Models& models) { return told(env, models); });
  }

  Napi::Value status(const Napi::CallbackInfo& info) {
    const std::string model = info[0].As<Napi::String>();
    return Work<MeshStatus>::start(
        info.Env(), [mesh = mesh_, model] { return mesh->status(model); },
        [](Napi::Env env, const MeshStatus& status) { return told(env, status); });
  }

  Napi::Value earnings(const Napi::CallbackInfo& info) {
    const std::string wallet = info[0].As<Napi::String>();
    return Work<MeshEarnings>::start(
        info.Env(), [mesh = mesh_, wallet] { return mesh->earnings(wallet); },
        [](Napi::Env env, const MeshEarnings& earned) { return told(env, earned); });
  }

  std::shared_ptr<FarMesh> mesh_;
};

}  // namespace

Napi::Function define_mesh(Napi::Env env) { return Mesh::define(env); }

}  // namespace farlabs
