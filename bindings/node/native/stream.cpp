// Stream and Tokens: what is read as it is made, by one reader.
#include <chrono>
#include <optional>
#include <string>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

template <class Self, class T>
// NOLINTNEXTLINE(bugprone-crtp-constructor-accessibility): its constructors are Wrap's
class Reader : public Wrap<Self, T> {
 public:
  using Wrap<Self, T>::Wrap;

 protected:
  static std::vector<Napi::ClassPropertyDescriptor<Self>> members() {
    return {
        Self::InstanceMethod("next", &Self::next), Self::InstanceMethod("onReady", &Self::on_ready),
        Self::InstanceMethod("close", &Self::close), Self::InstanceMethod("usage", &Self::usage)};
  }
  friend class Wrap<Self, T>;

  /// The next piece, null at the end, undefined when there is nothing to read yet.
  Napi::Value next(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!this->native().wait(std::chrono::milliseconds(0))) return env.Undefined();
    const auto piece = value_of(env, this->native().next());
    return piece ? Self::told(env, *piece) : env.Null();
  }

  /// Calls the function once, when next() has something to tell; it replaces an earlier one.
  Napi::Value on_ready(const Napi::CallbackInfo& info) {
    Wakes& wakes = info.Env().template GetInstanceData<Addon>()->wakes;
    if (waiting_) wakes.forget(*waiting_);
    auto [ticket, wake] = wakes.expect(info[0].As<Napi::Function>());
    waiting_ = ticket;
    this->native().on_ready(std::move(wake));
    return info.Env().Undefined();
  }

 private:
  std::optional<std::uint64_t> waiting_;
};

class Stream final : public Reader<Stream, MeshStream> {
 public:
  using Reader::Reader;

  static auto members() {
    auto all = Reader::members();
    all.push_back(InstanceMethod("requestId", &Stream::request_id));
    return all;
  }
  static Napi::Value told(Napi::Env env, const std::string& text) {
    return Napi::String::New(env, text);
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    native().close();
    return info.Env().Undefined();
  }

  Napi::Value usage(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const MeshUsage usage = native().usage();
    const Napi::Array nodes = array_of(env, usage.nodes_used, [env](const NodeUse& node) {
      Napi::Array layers = Napi::Array::New(env);
      for (std::uint32_t layer = node.layers.begin; layer < node.layers.end; ++layer) {
        layers.Set(layers.Length(), layer);
      }
      Napi::Object row = Napi::Object::New(env);
      row.Set("nodeId", node.node_id);
      row.Set("layers", layers);
      return row;
    });
    Napi::Object told = Napi::Object::New(env);
    told.Set("promptTokens", double(usage.prompt_tokens));
    told.Set("tokens", double(usage.tokens));
    told.Set("ttftMs", usage.ttft_ms);
    told.Set("finishReason", std::string(name(usage.finish)));
    told.Set("costFar", usage.cost ? Napi::Value(Napi::String::New(env, usage.cost->to_string()))
                                   : env.Null());
    told.Set("nodesUsed", nodes);
    told.Set("resumed", usage.resumed);
    return told;
  }

  Napi::Value request_id(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), native().request_id());
  }
};

class Tokens final : public Reader<Tokens, TokenStream> {
 public:
  using Reader::members;
  using Reader::Reader;

  static Napi::Value told(Napi::Env env, const Token& token) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("id", token.id);
    row.Set("text", token.text);
    row.Set("logprob", token.logprob);
    row.Set("top", array_of(env, token.top, [env](const TokenLogprob& each) {
              Napi::Object other = Napi::Object::New(env);
              other.Set("id", each.id);
              other.Set("logprob", each.logprob);
              return other;
            }));
    return row;
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    native().cancel();
    return info.Env().Undefined();
  }

  Napi::Value usage(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Usage usage = native().usage();
    Napi::Object told = Napi::Object::New(env);
    told.Set("promptTokens", usage.prompt_tokens);
    told.Set("tokens", usage.tokens);
    told.Set("ttftMs", usage.ttft_ms);
    told.Set("tokensPerSecond", usage.tokens_per_second);
    told.Set("finishReason", std::string(name(usage.finish)));
    told.Set("recoveries", usage.recoveries);
    told.Set("numericsChanged", usage.numerics_changed);
    told.Set("hops", hops_of(env, usage.hops));
    return told;
  }
};

}  // namespace

void define_streams(Napi::Object exports) {
  Stream::define(exports, "Stream");
  Tokens::define(exports, "Tokens");
}

Napi::Object make_stream(Napi::Env env, MeshStream stream) {
  return Stream::make(env, std::move(stream));
}

Napi::Object make_tokens(Napi::Env env, TokenStream stream) {
  return Tokens::make(env, std::move(stream));
}

}  // namespace farlabs
