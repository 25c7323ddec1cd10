// Model, Session, Hidden and Peer: the library's own types, as src/library.ts wraps them.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "fields.hpp"

namespace farlabs {
namespace {

using namespace farmesh;
using std::chrono::milliseconds;

// --- rows

/// {dtype, shape, data}: a view on the memory that the library gave.
Napi::Object told(Napi::Env env, Rows rows) {
  auto* const kept = new Rows(std::move(rows));
  // JavaScript has no memory that cannot be written; the package says that nobody may.
  auto* const bytes = const_cast<std::byte*>(kept->bytes.data());
  const auto buffer = Napi::ArrayBuffer::New(
      env, bytes, kept->bytes.size(), [](Napi::Env, void*, Rows* last) { delete last; }, kept);
  const std::size_t elements = std::size_t{kept->count} * kept->columns;
  Napi::Object object = Napi::Object::New(env);
  object.Set("dtype", std::string(name(kept->dtype)));
  object.Set("shape", span_of(env, {kept->count, kept->columns}));
  if (kept->dtype == DType::f32) {
    object.Set("data", Napi::Float32Array::New(env, elements, buffer, 0));
  } else {
    object.Set("data", Napi::Uint16Array::New(env, elements, buffer, 0));
  }
  return object;
}

/// A copy: JavaScript may take the memory of an array away from it at any time.
Rows rows_of(const Napi::Value& given) {
  const Napi::Env env = given.Env();
  const auto object = given.As<Napi::Object>();
  const Napi::Value data = object.Get("data");
  const auto shape = ids_of(object.Get("shape"));
  if (!data.IsTypedArray() || shape.size() != 2) {
    throw Napi::TypeError::New(env, "hidden states are {shape: [n, hidden], data: a typed array}");
  }
  const auto array = data.As<Napi::TypedArray>();
  Rows rows;
  switch (array.TypedArrayType()) {
    case napi_float32_array: rows.dtype = DType::f32; break;
    case napi_uint16_array: rows.dtype = DType::bf16; break;
    default:
      throw Napi::TypeError::New(env, "hidden states are a Float32Array, or a Uint16Array of bf16");
  }
  rows.count = shape[0];
  rows.columns = shape[1];
  const auto* const begin =
      static_cast<const std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  auto copy = std::make_shared<const std::vector<std::byte>>(begin, begin + array.ByteLength());
  rows.bytes = *copy;
  rows.owner = std::move(copy);
  return rows;
}

class Hidden final : public Wrap<Hidden, HiddenSession> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Hidden>> members() {
    return {InstanceMethod("run", &Hidden::run), InstanceMethod("position", &Hidden::position),
            InstanceMethod("truncate", &Hidden::truncate),
            InstanceMethod("cancel", &Hidden::cancel), InstanceMethod("hops", &Hidden::hops)};
  }

 private:
  Napi::Value run(const Napi::CallbackInfo& info) {
    return later<Rows>(
        info, [rows = rows_of(info[0])](HiddenSession& session) { return session.run(rows); },
        told);
  }
  Napi::Value position(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), native().position());
  }
  Napi::Value truncate(const Napi::CallbackInfo& info) {
    const std::uint32_t position = info[0].As<Napi::Number>();
    return later<std::uint32_t>(
        info,
        [position](HiddenSession& session) -> Result<std::uint32_t> {
          const Result<void> done = session.truncate(position);
          if (!done) return done.error();
          return position;
        },
        [](Napi::Env env, std::uint32_t) { return env.Undefined(); });
  }
  Napi::Value cancel(const Napi::CallbackInfo& info) {
    native().cancel();
    return info.Env().Undefined();
  }
  Napi::Value hops(const Napi::CallbackInfo& info) {
    using Hops = std::vector<HopUsage>;
    return later<Hops>(
        info, [](HiddenSession& session) { return session.hops(); }, hops_of);
  }
};

// --- sessions

GenerateOptions generate_options(const Napi::Value& given) {
  const AskOptions ask = ask_options(given);
  GenerateOptions options;
  options.max_tokens = ask.max_tokens;
  options.sampling = ask.sampling;
  const Fields fields(given);
  fields.read_whole("topLogprobs", options.sampling.top_logprobs);
  fields.read_whole("maxDraft", options.max_draft);
  options.sampling.seed = ask.seed ? *ask.seed : std::random_device{}();
  options.stop = ask.stop;
  options.ignore_eos = ask.ignore_eos;
  return options;
}

class Talk final : public Wrap<Talk, Session> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Talk>> members() {
    return {InstanceMethod("generate", &Talk::generate),
            InstanceMethod("generateIds", &Talk::generate_ids), InstanceMethod("chat", &Talk::chat),
            InstanceMethod("ids", &Talk::ids)};
  }

 private:
  /// A turn may wait for the end of one that was cancelled: not on this thread.
  template <class Begin>
  Napi::Value turn(const Napi::CallbackInfo& info, Begin begin) {
    return later<TokenStream>(
        info,
        [begin = std::move(begin), options = generate_options(info[1])](Session& session) {
          return begin(session, options);
        },
        make_tokens);
  }
  Napi::Value generate(const Napi::CallbackInfo& info) {
    const std::string prompt = info[0].As<Napi::String>();
    return turn(info, [prompt](Session& session, const GenerateOptions& options) {
      return session.generate(prompt, options);
    });
  }
  Napi::Value generate_ids(const Napi::CallbackInfo& info) {
    return turn(info, [ids = ids_of(info[0])](Session& session, const GenerateOptions& options) {
      return session.generate_ids(ids, options);
    });
  }
  Napi::Value chat(const Napi::CallbackInfo& info) {
    return turn(
        info, [messages = messages_of(info[0])](Session& session, const GenerateOptions& options) {
          return session.chat(messages, options);
        });
  }
  Napi::Value ids(const Napi::CallbackInfo& info) {
    using Ids = std::vector<TokenId>;
    return later<Ids>(
        info, [](Session& session) { return session.ids(); },
        [](Napi::Env env, const Ids& ids) {
          return array_of(env, ids, [](TokenId id) { return id; });
        });
  }
};

// --- models

Napi::Object told(Napi::Env env, const ModelSummary& info) {
  Napi::Object row = Napi::Object::New(env);
  row.Set("modelId", info.model_id);
  row.Set("modelHash", info.model_hash);
  row.Set("numericsClass", info.numerics_class);
  row.Set("architecture", info.architecture);
  row.Set("numLayers", info.num_layers);
  row.Set("hiddenSize", info.hidden_size);
  row.Set("hiddenDtype", std::string(name(info.hidden_dtype)));
  row.Set("vocabSize", info.vocab_size);
  row.Set("contextTokens", info.context_tokens);
  row.Set("hasChatTemplate", info.has_chat_template);
  row.Set("weightBytes", double(info.weight_bytes));
  row.Set("peers", array_of(env, info.peers, [env](const PeerStatus& peer) {
            Napi::Object each = Napi::Object::New(env);
            each.Set("address", peer.address);
            each.Set("nodeId", peer.node_id);
            each.Set("connected", peer.connected);
            each.Set("layers", span_of(env, peer.layers));
            each.Set("head", peer.head);
            each.Set("roundTripMs", peer.round_trip_ms);
            each.Set("refused", peer.refused
                                    ? Napi::Value(Napi::String::New(env, peer.refused->to_string()))
                                    : env.Null());
            return each;
          }));
  return row;
}

SessionOptions session_options(const Napi::Value& given) {
  const Fields fields(given);
  SessionOptions options;
  fields.read_whole("contextTokens", options.context_tokens);
  fields.read_whole("bufferTokens", options.buffer_tokens);
  fields.read("warmStandby", options.warm_standby);
  return options;
}

class Model final : public Wrap<Model, DistributedModel> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Model>> members() {
    return {StaticMethod("open", &Model::open),
            InstanceMethod("encode", &Model::encode),
            InstanceMethod("decode", &Model::decode),
            InstanceMethod("tokenBytes", &Model::token_bytes),
            InstanceMethod("info", &Model::info),
            InstanceMethod("openSession", &Model::open_session),
            InstanceMethod("openHiddenSession", &Model::open_hidden_session),
            InstanceMethod("embed", &Model::embed),
            InstanceMethod("logits", &Model::logits)};
  }

 private:
  static Napi::Value open(const Napi::CallbackInfo& info) {
    return Work<DistributedModel>::start(
        info.Env(), [options = model_options(info[0])] { return DistributedModel::open(options); },
        make);
  }
  Napi::Value encode(const Napi::CallbackInfo& info) {
    const std::string text = info[0].As<Napi::String>();
    const bool add_special = info[1].As<Napi::Boolean>();
    return array_of(info.Env(), value_of(info.Env(), native().encode(text, add_special)),
                    [](TokenId id) { return id; });
  }
  Napi::Value decode(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), native().decode(ids_of(info[0])));
  }
  Napi::Value token_bytes(const Napi::CallbackInfo& info) {
    const std::string bytes = native().token_bytes(TokenId(info[0].As<Napi::Number>()));
    auto array = Napi::Uint8Array::New(info.Env(), bytes.size());
    if (!bytes.empty()) std::memcpy(array.Data(), bytes.data(), bytes.size());
    return array;
  }
  Napi::Value info(const Napi::CallbackInfo& info) {
    return later<ModelSummary>(
        info, [](DistributedModel& model) { return model.info(); },
        [](Napi::Env env, const ModelSummary& summary) { return told(env, summary); });
  }
  Napi::Value open_session(const Napi::CallbackInfo& info) {
    return Talk::make(info.Env(),
                      value_of(info.Env(), native().open_session(session_options(info[0]))));
  }
  Napi::Value open_hidden_session(const Napi::CallbackInfo& info) {
    return Hidden::make(
        info.Env(), value_of(info.Env(), native().open_hidden_session(session_options(info[0]))));
  }
  Napi::Value embed(const Napi::CallbackInfo& info) {
    return later<Rows>(
        info, [ids = ids_of(info[0])](DistributedModel& model) { return model.embed(ids); },
        [](Napi::Env env, Rows rows) { return told(env, std::move(rows)); });
  }
  Napi::Value logits(const Napi::CallbackInfo& info) {
    return later<Rows>(
        info, [rows = rows_of(info[0])](DistributedModel& model) { return model.logits(rows); },
        [](Napi::Env env, Rows rows) { return told(env, std::move(rows)); });
  }
};

// --- peers

class Server final : public Wrap<Server, Peer> {
 public:
  using Wrap::Wrap;

  static std::vector<Napi::ClassPropertyDescriptor<Server>> members() {
    return {StaticMethod("start", &Server::start), InstanceMethod("address", &Server::address),
            InstanceMethod("nodeId", &Server::node_id), InstanceMethod("stats", &Server::stats),
            InstanceMethod("stop", &Server::stop)};
  }

 private:
  static Napi::Value start(const Napi::CallbackInfo& info) {
    const Fields fields(info[0]);
    PeerOptions options;
    std::int32_t dht_port = -1;
    fields.read("folder", options.folder);
    fields.read_whole("firstLayer", options.layers.begin);
    fields.read_whole("endLayer", options.layers.end);
    fields.read("head", options.head);
    fields.read("listen", options.listen);
    fields.read("bootstrap", options.discovery.bootstrap);
    fields.read_whole("dhtPort", dht_port);
    if (dht_port > UINT16_MAX) fields.refuse("dhtPort", "a port");
    if (dht_port >= 0) options.discovery.dht_port = std::uint16_t(dht_port);
    fields.read_whole("threads", options.threads);
    fields.read("dataDir", options.identity.data_dir);
    fields.read("precision", options.precision);
    return Work<Peer>::start(
        info.Env(), [options] { return Peer::start(options); }, make);
  }
  Napi::Value address(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), native().address());
  }
  Napi::Value node_id(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), native().node_id());
  }
  Napi::Value stats(const Napi::CallbackInfo& info) {
    return later<PeerStats>(
        info, [](Peer& peer) { return peer.stats(); },
        [](Napi::Env env, const PeerStats& stats) {
          Napi::Object row = Napi::Object::New(env);
          row.Set("steps", double(stats.steps));
          row.Set("rows", double(stats.rows));
          row.Set("forwardedBytes", double(stats.forwarded_bytes));
          row.Set("sessions", stats.sessions);
          row.Set("connections", stats.connections);
          row.Set("weightBytes", double(stats.weight_bytes));
          return row;
        });
  }
  Napi::Value stop(const Napi::CallbackInfo& info) {
    const milliseconds drain(std::int64_t(info[0].As<Napi::Number>()));
    return later<bool>(
        info,
        [drain](Peer& peer) {
          peer.stop(drain);
          return true;
        },
        [](Napi::Env env, bool) { return env.Undefined(); });
  }
};

}  // namespace

void define_model(Napi::Object exports) {
  Hidden::define(exports, "Hidden");
  Talk::define(exports, "Session");
  Model::define(exports, "Model");
  Server::define(exports, "Peer");
}

}  // namespace farlabs
