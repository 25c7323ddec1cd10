// The native half of the package `farlabs`; docs/sdk-python.md shows the whole.
#include <atomic>

#include <unistd.h>

#include "binding.hpp"

namespace farlabs {
namespace {

std::atomic<int> waiting = 0;
std::atomic<bool> ending = false;

}  // namespace

bool wait_aside(const std::function<bool()>& wait) {
  ++waiting;
  PyThreadState* const state = PyEval_SaveThread();
  const bool outcome = wait();
  if (ending) {
    --waiting;
    // Asking for an interpreter that has ended would end the thread in the middle of C++.
    for (;;) ::pause();
  }
  PyEval_RestoreThread(state);
  --waiting;
  return outcome;
}

void let_go() {
  ending = true;
  const py::gil_scoped_release release;
  while (waiting > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void raise(const farmesh::MeshError& error) {
  const py::object made =
      py::module_::import("farlabs._errors")
          .attr("_make")(std::string(farmesh::name(error.kind)), error.code, error.message,
                         error.request_id, error.status,
                         error.retry_after ? py::object(py::int_(error.retry_after->count()))
                                           : py::object(py::none()));
  PyErr_SetObject(py::type::of(made).ptr(), made.ptr());
  throw py::error_already_set();
}

py::object decimal(farmesh::Far amount) {
  // Found once; the interpreter's end may come before this object's, so it is never destroyed.
  static const auto& kind = *new py::object(py::module_::import("decimal").attr("Decimal"));
  return kind(amount.to_string());
}

void heed_signals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace farlabs

PYBIND11_MODULE(_farlabs, module) {
  module.attr("__version__") = std::string(farmesh::version());
  farlabs::register_mesh(module);
  farlabs::register_session(module);
  farlabs::register_library(module);
}
