// Mesh: the calls of a FarMesh. Options come as src/native.ts writes them.
#include <string>
#include <vector>

#include "fields.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

Napi::Object told(Napi::Env env, const MeshStatus& status) {
  Napi::Object row = Napi::Object::New(env);
  row.Set("modelId", status.model_id);
  row.Set("activeNodes", status.active_nodes);
  row.Set("activeSessions", status.active_sessions);
  row.Set("pricePerTokenFar", status.price_per_token.to_string());
  row.Set("connected", status.connected);
  return row;
}

Napi::Object told(Napi::Env env, const MeshEarnings& earned) {
  const Napi::Array history = array_of(env, earned.history, [env](const DailyEarning& day) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("date", day.date);
    row.Set("amountFar", day.amount.to_string());
    return row;
  });
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

Napi::Array told(Napi::Env env, const std::vector<MeshModel>& models) {
  return array_of(env, models, [env](const MeshModel& model) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("modelId", model.model_id);
    row.Set("activeNodes", model.active_nodes);
    row.Set("pricePerTokenFar", model.price_per_token.to_string());
    row.Set("available", model.available);
    return row;
  });
}

class Mesh final : public Wrap<Mesh, FarMesh> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Mesh>> members() {
    return {StaticMethod("connect", &Mesh::connect),     StaticMethod("open", &Mesh::open),
            InstanceMethod("generate", &Mesh::generate), InstanceMethod("chat", &Mesh::chat),
            InstanceMethod("models", &Mesh::models),     InstanceMethod("status", &Mesh::status),
            InstanceMethod("earnings", &Mesh::earnings)};
  }

 private:
  static Napi::Value connect(const Napi::CallbackInfo& info) {
    const Fields fields(info[0]);
    ConnectOptions options;
    fields.read("apiKey", options.api_key);
    fields.read("baseUrl", options.base_url);
    fields.read("model", options.model);
    fields.read("connectTimeout", options.connect_timeout);
    fields.read("timeout", options.timeout);
    fields.read_whole("maxRetries", options.max_retries);
    fields.read("caFile", options.ca_file);
    return make(info.Env(), value_of(info.Env(), FarMesh::connect(options)));
  }

  static Napi::Value open(const Napi::CallbackInfo& info) {
    return Work<FarMesh>::start(
        info.Env(), [options = model_options(info[0])] { return FarMesh::open(options); }, make);
  }

  Napi::Value generate(const Napi::CallbackInfo& info) {
    const std::string prompt = info[0].As<Napi::String>();
    return make_stream(info.Env(), native().generate(prompt, ask_options(info[1])));
  }

  Napi::Value chat(const Napi::CallbackInfo& info) {
    return make_stream(info.Env(), native().chat(messages_of(info[0]), ask_options(info[1])));
  }

  template <class Value, class Ask>
  Napi::Value ask(const Napi::CallbackInfo& info, Ask ask) const {
    return later<Value>(info, std::move(ask),
                        [](Napi::Env env, const Value& value) { return told(env, value); });
  }

  Napi::Value models(const Napi::CallbackInfo& info) {
    return ask<std::vector<MeshModel>>(info, [](FarMesh& mesh) { return mesh.models(); });
  }

  Napi::Value status(const Napi::CallbackInfo& info) {
    const std::string model = info[0].As<Napi::String>();
    return ask<MeshStatus>(info, [model](FarMesh& mesh) { return mesh.status(model); });
  }

  Napi::Value earnings(const Napi::CallbackInfo& info) {
    const std::string wallet = info[0].As<Napi::String>();
    return ask<MeshEarnings>(info, [wallet](FarMesh& mesh) { return mesh.earnings(wallet); });
  }
};

}  // namespace

ModelOptions model_options(const Napi::Value& given) {
  const Fields fields(given);
  ModelOptions options;
  fields.read("model", options.folder);
  fields.read("bootstrap", options.discovery.bootstrap);
  fields.read("peers", options.peers);
  fields.read("local", options.local);
  fields.read("remoteHead", options.remote_head);
  fields.read("draftModel", options.draft_model);
  fields.read_whole("threads", options.threads);
  fields.read("joinTokenFile", options.identity.join_token_file);
  fields.read("precision", options.precision);
  return options;
}

void define_mesh(Napi::Object exports) { Mesh::define(exports, "Mesh"); }

}  // namespace farlabs
