// The native part of @farlabs/sdk, as src/native.ts wraps it.
#include "fields.hpp"

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

Napi::Array span_of(Napi::Env env, farmesh::Span span) {
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, span.begin);
  pair.Set(1u, span.end);
  return pair;
}

Napi::Array hops_of(Napi::Env env, const std::vector<farmesh::HopUsage>& hops) {
  return array_of(env, hops, [env](const farmesh::HopUsage& hop) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("peer", hop.peer);
    row.Set("layers", span_of(env, hop.span));
    row.Set("ms", hop.ms);
    return row;
  });
}

std::vector<farmesh::TokenId> ids_of(const Napi::Value& given) {
  if (!given.IsArray())
    throw Napi::TypeError::New(given.Env(), "token ids are an array of numbers");
  const auto array = given.As<Napi::Array>();
  std::vector<farmesh::TokenId> ids;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value each = array[i];
    const double id = each.IsNumber() ? double(each.As<Napi::Number>()) : -1;
    if (!(id >= 0 && id <= UINT32_MAX) || id != std::floor(id)) {
      throw Napi::TypeError::New(given.Env(), "a token id is a whole number");
    }
    ids.push_back(farmesh::TokenId(id));
  }
  return ids;
}

std::vector<farmesh::ChatMessage> messages_of(const Napi::Value& given) {
  const auto array = given.As<Napi::Array>();
  std::vector<farmesh::ChatMessage> messages;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value each = array[i];
    if (!each.IsObject()) throw Napi::TypeError::New(given.Env(), "a message must be an object");
    const Fields fields(each);
    farmesh::ChatMessage& message = messages.emplace_back();
    fields.read("role", message.role);
    fields.read("content", message.content);
  }
  return messages;
}

}  // namespace farlabs

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new farlabs::Addon(env));  // the environment deletes it
  farlabs::define_streams(exports);
  farlabs::define_mesh(exports);
  farlabs::define_model(exports);
  farlabs::define_ledger(exports);
  exports.Set("version", std::string(farmesh::version()));
  return exports;
}

}  // namespace

NODE_API_MODULE(farlabs, init)
