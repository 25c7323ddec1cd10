// What the files of this binding share: conversions, failures, and the way back to the event loop.
//
// Everything here runs on the thread of one JavaScript environment, but for what says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <typeindex>
#include <utility>
#include <vector>

#include <napi.h>

#include <farmesh/farmesh.hpp>

namespace farlabs {

/// Wakes the event loop from the library's threads. One to an environment; while somebody waits it
/// keeps the loop alive.
class Wakes {
 public:
  explicit Wakes(Napi::Env env);
  Wakes(const Wakes&) = delete;
  Wakes& operator=(const Wakes&) = delete;

  /// Calls `callback` once after somebody has called what this gives, from any thread; never after
  /// the returned ticket is forgotten.
  std::pair<std::uint64_t, std::function<void()>> expect(Napi::Function callback);
  void forget(std::uint64_t ticket);

 private:
  /// Outlives the environment in the hands of other threads.
  struct Gate {
    std::mutex mutex;
    bool open = true;
    Napi::ThreadSafeFunction function;
  };
  void fire(std::uint64_t ticket);
  void hold(std::size_t before);

  Napi::Env env_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::map<std::uint64_t, Napi::FunctionReference> waiting_;
  std::uint64_t next_ = 0;
};

/// Of one environment.
struct Addon {
  explicit Addon(Napi::Env env) : wakes(env) {}
  Wakes wakes;
  std::map<std::type_index, Napi::FunctionReference> constructors;
};

/// An object of the failure's fields, which native.ts makes a FarMeshError of.
Napi::Error failure(Napi::Env env, const farmesh::MeshError& error);

template <class T>
T value_of(Napi::Env env, farmesh::MeshResult<T> result) {
  if (!result) throw failure(env, result.error());
  return *std::move(result);
}

template <class T>
T value_of(Napi::Env env, farmesh::Result<T> result) {
  if (!result) throw failure(env, farmesh::mesh_error(result.error()));
  return *std::move(result);
}

/// A promise of what `work` gives, computed on a thread of libuv's; `convert` runs on this one.
template <class T>
class Work final : public Napi::AsyncWorker {
 public:
  /// `make` gives a MeshResult<T>, a Result<T> or a T, `convert` something that JavaScript has.
  template <class Make, class Convert>
  static Napi::Value start(Napi::Env env, Make make, Convert convert) {
    auto* self = new Work(env);  // deletes itself
    self->work_ = [self, make = std::move(make)]() mutable { self->keep(make()); };
    self->convert_ = [convert = std::move(convert)](Napi::Env at, T value) {
      return Napi::Value::From(at, convert(at, std::move(value)));
    };
    const Napi::Promise promise = self->promise_.Promise();
    self->Queue();
    return promise;
  }

 private:
  explicit Work(Napi::Env env) : AsyncWorker(env), promise_(Napi::Promise::Deferred::New(env)) {}

  void keep(farmesh::MeshResult<T> result) {
    result_ = std::make_unique<farmesh::MeshResult<T>>(std::move(result));
  }
  void keep(farmesh::Result<T> result) {
    keep(result ? farmesh::MeshResult<T>(*std::move(result))
                : farmesh::MeshResult<T>(farmesh::mesh_error(result.error())));
  }
  void keep(T value) { keep(farmesh::MeshResult<T>(std::move(value))); }

  void Execute() override { work_(); }
  void OnOK() override {
    if (!*result_) return promise_.Reject(failure(Env(), result_->error()).Value());
    promise_.Resolve(convert_(Env(), *std::move(*result_)));
  }

  Napi::Promise::Deferred promise_;
  std::function<void()> work_;
  std::function<Napi::Value(Napi::Env, T)> convert_;
  std::unique_ptr<farmesh::MeshResult<T>> result_;
};

/// A JavaScript object around one of the library's, which it shares with threads at work.
template <class Self, class T>
class Wrap : public Napi::ObjectWrap<Self> {
 public:
  explicit Wrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "only the package itself makes these");
    }
    native_ = *info[0].As<Napi::External<std::shared_ptr<T>>>().Data();
  }

  static Napi::Object make(Napi::Env env, T native) {
    auto shared = std::make_shared<T>(std::move(native));
    return env.GetInstanceData<Addon>()
        ->constructors.at(typeid(Self))
        .New({Napi::External<std::shared_ptr<T>>::New(env, &shared)});
  }

  /// Made known as `name`, with the methods that Self::members() has.
  static void define(Napi::Object exports, const char* name) {
    const Napi::Env env = exports.Env();
    const Napi::Function constructor = Self::DefineClass(env, name, Self::members());
    env.GetInstanceData<Addon>()->constructors[typeid(Self)] = Napi::Persistent(constructor);
    exports.Set(name, constructor);
  }

 protected:
  T& native() const { return *native_; }

  /// A promise of what `ask` gives of the object, on a thread of libuv's, as `convert` tells it.
  template <class Value, class Ask, class Convert>
  Napi::Value later(const Napi::CallbackInfo& info, Ask ask, Convert convert) const {
    return Work<Value>::start(
        info.Env(), [native = native_, ask = std::move(ask)]() mutable { return ask(*native); },
        std::move(convert));
  }

 private:
  std::shared_ptr<T> native_;
};

/// As JavaScript has lists.
template <class Each, class Convert>
Napi::Array array_of(Napi::Env env, const std::vector<Each>& values, Convert convert) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (std::uint32_t i = 0; i < values.size(); ++i) array.Set(i, convert(values[i]));
  return array;
}

Napi::Array span_of(Napi::Env env, farmesh::Span span);  // [first, one past the last]
Napi::Array hops_of(Napi::Env env, const std::vector<farmesh::HopUsage>& hops);
std::vector<farmesh::TokenId> ids_of(const Napi::Value& given);
std::vector<farmesh::ChatMessage> messages_of(const Napi::Value& given);

void define_streams(Napi::Object exports);
void define_mesh(Napi::Object exports);
void define_model(Napi::Object exports);
void define_ledger(Napi::Object exports);
/// Stream objects around these.
Napi::Object make_stream(Napi::Env env, farmesh::MeshStream stream);
Napi::Object make_tokens(Napi::Env env, farmesh::TokenStream stream);

}  // namespace farlabs
