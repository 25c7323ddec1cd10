// Stream: an answer as it is made, for one reader.
#include <chrono>
#include <optional>
#include <string>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

class Stream final : public Napi::ObjectWrap<Stream> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Stream",
        {InstanceMethod("next", &Stream::next), InstanceMethod("onReady", &Stream::on_ready),
         InstanceMethod("close", &Stream::close), InstanceMethod("usage", &Stream::usage),
         InstanceMethod("requestId", &Stream::request_id)});
  }

  explicit Stream(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "a Stream is made by a Mesh");
    }
    stream_.emplace(std::move(*info[0].As<Napi::External<MeshStream>>().Data()));
  }

 private:
  /// The next text, null at the end, undefined when there is nothing to read yet.
  Napi::Value next(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!stream_->wait(std::chrono::milliseconds(0))) return env.Undefined();
    const std::optional<std::string> text = value_of(env, stream_->next());
    return text ? Napi::Value(Napi::String::New(env, *text)) : env.Null();
  }

  /// Calls the function once, when next() has something to tell; it replaces an earlier one.
  Napi::Value on_ready(const Napi::CallbackInfo& info) {
    Wakes& wakes = info.Env().GetInstanceData<Addon>()->wakes;
    if (waiting_) wakes.forget(*waiting_);
    auto [ticket, wake] = wakes.expect(info[0].As<Napi::Function>());
    waiting_ = ticket;
    stream_->on_ready(std::move(wake));
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    stream_->close();
    return info.Env().Undefined();
  }

  Napi::Value usage(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const MeshUsage usage = stream_->usage();
    Napi::Array nodes = Napi::Array::New(env);
    for (const NodeUse& node : usage.nodes_used) {
      Napi::Array layers = Napi::Array::New(env);
      for (std::uint32_t layer = node.layers.begin; layer < node.layers.end; ++layer) {
        layers.Set(layers.Length(), layer);
      }
      Napi::Object row = Napi::Object::New(env);
      row.Set("nodeId", node.node_id);
      row.Set("layers", layers);
      nodes.Set(nodes.Length(), row);
    }
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
    return Napi::String::New(info.Env(), stream_->request_id());
  }

  std::optional<MeshStream> stream_;  // always, once it is constructed
  std::optional<std::uint64_t> waiting_;
};

}  // namespace

Napi::Function define_stream(Napi::Env env) { return Stream::define(env); }

Napi::Object make_stream(Napi::Env env, MeshStream stream) {
  return env.GetInstanceData<Addon>()->stream.New({Napi::External<MeshStream>::New(env, &stream)});
}

}  // namespace farlabs
