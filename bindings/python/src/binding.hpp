// What the files of this binding share: failures, amounts, waiting, and one register function each.
//
// Waiting never holds the interpreter, be it for an answer or for a thread of the library's: other
// Python threads run, and Ctrl-C is heard. No thread of the library's waits for the interpreter.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <farmesh/farmesh.hpp>

namespace farlabs {

namespace py = pybind11;

void register_ledger(py::module_& module);
void register_mesh(py::module_& module);
void register_model(py::module_& module);
void register_peer(py::module_& module);
void register_rows(py::module_& module);
void register_session(py::module_& module);

/// The options of a question, as farlabs._mesh.native_options() gives them. Raises TypeError where
/// a name or a type is wrong.
farmesh::AskOptions options_of(const py::dict& given);

/// Raises TypeError where `value` is nothing that `field` can be.
template <class T>
void read_option(const char* key, const py::object& value, T& field) {
  try {
    field = value.cast<T>();
  } catch (const py::cast_error&) {
    throw py::type_error(std::string(key) + " cannot be " + std::string(py::repr(value)));
  }
}

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
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// decimal.Decimal, exactly.
py::object decimal(farmesh::Far amount);
/// (first, one past the last).
py::tuple pair_of(farmesh::Span span);
/// Who computed what, as dicts.
py::list hops_of(const std::vector<farmesh::HopUsage>& hops);

/// "f32", "bf16", … Raises ValueError.
farmesh::Precision precision_of(const std::string& wanted);

// --- waiting

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

/// What a stream tells next: waits for it, and Ctrl-C is heard.
template <class Stream>
auto next_of(Stream& stream) {
  while (!stream.wait(std::chrono::milliseconds(0))) {
    if (wait_aside([&stream] { return stream.wait(kSignalInterval); })) break;
    heed_signals();
  }
  return value_of(stream.next());  // which does not wait any more
}

// --- what is shared with threads of the library's

/// Runs `work`, which throws nothing, with the interpreter on a thread of the binding's own: from
/// any thread, without waiting for it.
void call_later(std::function<void()> work);

/// Tells one event loop from any thread who is to be woken there: by a descriptor that it watches,
/// so that no thread of the library's has to do with Python.
class Wakes {
 public:
  Wakes();  // raises OSError
  Wakes(const Wakes&) = delete;
  Wakes& operator=(const Wakes&) = delete;
  ~Wakes();

  int descriptor() const noexcept { return descriptor_; }
  void wake(std::uint64_t ticket);
  /// Those that were woken since the last call.
  std::vector<std::uint64_t> take();

 private:
  const int descriptor_;
  std::mutex mutex_;
  std::vector<std::uint64_t> due_;
};

/// Wakes `ticket` once, as soon as next_of() would not wait.
template <class Stream>
void on_ready(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Wakes>& wakes,
              std::uint64_t ticket) {
  stream->on_ready([wakes, ticket] { wakes->wake(ticket); });
}

/// An object of the library's, for Python and threads of its own. Its destruction may wait for a
/// thread of the library's.
template <class T>
std::shared_ptr<T> shared(T object) {
  return {new T(std::move(object)), [](T* last) {
            if (PyGILState_Check() == 0) {
              delete last;
              return;
            }
            const py::gil_scoped_release release;
            delete last;
          }};
}

}  // namespace farlabs
