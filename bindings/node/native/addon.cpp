// The native part of @farlabs/sdk, as src/native.ts wraps it.
#include <farmesh/farmesh.hpp>

#include "binding.hpp"

namespace farlabs {

Wakes::Wakes(Napi::Env env) : env_(env) {
  const auto nothing = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  gate_->function = Napi::ThreadSafeFunction::New(env, nothing, "farlabs", 0, 1);
  gate_->function.Unref(env);
  env.AddCleanupHook([gate = gate_] {
    const std::lock_guard lock(gate->mutex);
    gate->open = false;
    gate->function.Abort();
  });
}

std::pair<std::uint64_t, std::function<void()>> Wakes::expect(Napi::Function callback) {
  const std::uint64_t ticket = next_++;
  const std::size_t before = waiting_.size();
  waiting_[ticket] = Napi::Persistent(callback);
  hold(before);
  return {
      ticket, [this, ticket, gate = gate_] {
        const std::lock_guard lock(gate->mutex);
        if (!gate->open) return;  // and `this` may be gone
        gate->function.NonBlockingCall([this, ticket](Napi::Env, Napi::Function) { fire(ticket); });
      }};
}

void Wakes::forget(std::uint64_t ticket) {
  const std::size_t before = waiting_.size();
  waiting_.erase(ticket);
  hold(before);
}

void Wakes::fire(std::uint64_t ticket) {
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return;
  const Napi::HandleScope scope(env_);
  const Napi::Function callback = found->second.Value();
  forget(ticket);
  callback.Call({});
}

/// Keeps the event loop alive exactly while somebody waits.
void Wakes::hold(std::size_t before) {
  if (before == 0 && !waiting_.empty()) gate_->function.Ref(env_);
  if (before != 0 && waiting_.empty()) gate_->function.Unref(env_);
}

Napi::Error failure(Napi::Env env, const farmesh::MeshError& error) {
  Napi::Error told = Napi::Error::New(env, error.message);
  told.Set("kind", std::string(farmesh::name(error.kind)));
  told.Set("code", error.code);
  told.Set("requestId", error.request_id);
  told.Set("status", Napi::Number::New(env, error.status));
  told.Set("retryAfter", error.retry_after ? Napi::Value(Napi::Number::New(
                                                 env, double(error.retry_after->count())))
                                           : env.Null());
  return told;
}

}  // namespace farlabs

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* addon = new farlabs::Addon(env);  // the environment deletes it
  env.SetInstanceData(addon);
  addon->stream = Napi::Persistent(farlabs::define_stream(env));
  const Napi::Function mesh = farlabs::define_mesh(env);
  addon->mesh = Napi::Persistent(mesh);
  exports.Set("Mesh", mesh);
  exports.Set("version", std::string(farmesh::version()));
  return exports;
}

}  // namespace

NODE_API_MODULE(farlabs, init)
