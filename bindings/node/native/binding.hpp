// What the files of this binding share: conversions, failures, and the way back to the event loop.
//
// Everything here runs on the thread of one JavaScript environment, but for what says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <napi.h>

#include <farmesh/far_mesh.hpp>

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
  Napi::FunctionReference stream;  // the constructors
  Napi::FunctionReference mesh;
};

/// An object of the failure's fields, which native.ts makes a FarMeshError of.
Napi::Error failure(Napi::Env env, const farmesh::MeshError& error);

template <class T>
T value_of(Napi::Env env, farmesh::MeshResult<T> result) {
  if (!result) throw failure(env, result.error());
  return *std::move(result);
}

/// A promise of what `work` gives, computed on a thread of libuv's; `convert` runs on this one.
template <class T>
class Work final : public Napi::AsyncWorker {
 public:
  using Convert = std::function<Napi::Value(Napi::Env, T)>;

  static Napi::Value start(Napi::Env env, std::function<farmesh::MeshResult<T>()> work,
                           Convert convert) {
    auto* self = new Work(env, std::move(work), std::move(convert));  // deletes itself
    const Napi::Promise promise = self->promise_.Promise();
    self->Queue();
    return promise;
  }

 private:
  Work(Napi::Env env, std::function<farmesh::MeshResult<T>()> work, Convert convert)
      : AsyncWorker(env),
        promise_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  void Execute() override { result_ = std::make_unique<farmesh::MeshResult<T>>(work_()); }
  void OnOK() override {
    if (!*result_) return promise_.Reject(failure(Env(), result_->error()).Value());
    promise_.Resolve(convert_(Env(), *std::move(*result_)));
  }

  Napi::Promise::Deferred promise_;
  std::function<farmesh::MeshResult<T>()> work_;
  Convert convert_;
  std::unique_ptr<farmesh::MeshResult<T>> result_;
};

Napi::Function define_stream(Napi::Env env);
Napi::Function define_mesh(Napi::Env env);
/// A Stream object around `stream`.
Napi::Object make_stream(Napi::Env env, farmesh::MeshStream stream);

}  // namespace farlabs
