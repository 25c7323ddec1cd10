// What the files of this binding share: errors, amounts, waiting, and one register function each.
//
// Waiting never holds the interpreter: other Python threads run, and Ctrl-C is heard.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <farmesh/far_mesh.hpp>
#include <farmesh/farmesh.hpp>

namespace farlabs {

namespace py = pybind11;

void register_mesh(py::module_& module);
void register_library(py::module_& module);
void register_session(py::module_& module);

/// The options of a question, as farlabs._mesh.native_options() gives them. Raises TypeError where
/// a name or a type is wrong.
farmesh::AskOptions options_of(const py::dict& given);

/// Raises the class of farlabs._errors that the failure belongs to.
[[noreturn]] void raise(const farmesh::MeshError& error);

template <class T>
T value_of(farmesh::MeshResult<T> result) {
  if (!result) raise(result.error());
  return *std::move(result);
}

template <class T>
T value_of(farmesh::Result<T> result) {
  if (!result) raise(farmesh::mesh_error(result.error()));
  return *std::move(result);
}

/// decimal.Decimal, exactly.
py::object decimal(farmesh::Far amount);

/// How often a waiting main thread looks whether Ctrl-C was pressed.
inline constexpr std::chrono::milliseconds kSignalInterval{50};

/// Raises KeyboardInterrupt, or whatever a signal handler does, if one is due.
void heed_signals();

/// Calls `wait` while other Python threads run; gives what it gives. A thread that still waits when
/// the interpreter ends is never let back in: it sleeps until the process is gone.
bool wait_aside(const std::function<bool()>& wait);

/// Ends all waiting: for the interpreter's last moment.
void let_go();

/// What `work` returns, computed on a thread of its own so that Ctrl-C is heard. Interrupted, it is
/// left to end by itself: it must own what it uses, and touch nothing of Python's.
template <class Work>
auto wait_for(Work work) {
  using Value = decltype(work());
  std::packaged_task<Value()> task(std::move(work));
  std::future<Value> value = task.get_future();
  std::thread(std::move(task)).detach();
  for (;;) {
    const auto is_ready = [&value] {
      return value.wait_for(kSignalInterval) == std::future_status::ready;
    };
    if (wait_aside(is_ready)) break;
    heed_signals();
  }
  return value.get();
}

/// An object of the library's whose destruction may wait for a thread that wants the interpreter.
template <class T>
class Held {
 public:
  explicit Held(T object) : object_(std::make_unique<T>(std::move(object))) {}
  Held(Held&&) noexcept = default;
  ~Held() {
    if (!object_) return;
    const py::gil_scoped_release release;
    object_.reset();
  }

  T& operator*() const { return *object_; }
  T* operator->() const { return object_.get(); }

 private:
  std::unique_ptr<T> object_;
};

using HeldSession = Held<farmesh::Session>;

}  // namespace farlabs
