// The native half of the package `farlabs`; docs/sdk-python.md shows the whole.
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "binding.hpp"

namespace farlabs {
namespace {

/// What this process's threads share. A forked child has others, and so begins anew.
class Process {
 public:
  bool is_this_one() const noexcept { return ::getpid() == id_; }

  /// Runs `work` with the interpreter on a thread of its own: those who ask for it must not wait
  /// for that, as it may be with somebody who waits for them.
  void call(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    works_.push_back(std::move(work));
    changed_.notify_one();
    if (std::exchange(begun_, true)) return;
    std::thread([this] { run(); }).detach();
  }

  std::atomic<int> waiting = 0;  // threads that will want the interpreter
  std::atomic<bool> ending = false;

 private:
  void run() {
    for (;;) {
      std::vector<std::function<void()>> works;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !works_.empty(); });
        works.swap(works_);
      }
      ++waiting;
      if (ending) {
        --waiting;
        for (;;) ::pause();  // as in wait_aside(); what is left ends with the process
      }
      {
        const py::gil_scoped_acquire acquire;
        for (const auto& work : works) work();
        works.clear();
      }
      --waiting;
    }
  }

  const pid_t id_ = ::getpid();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> works_;
  bool begun_ = false;
};

/// Never destroyed: threads may come here after the process began to end.
Process& process() {
  static std::atomic<Process*> present = nullptr;
  Process* found = present;
  while (found == nullptr || !found->is_this_one()) {
    auto fresh = std::make_unique<Process>();
    if (present.compare_exchange_strong(found, fresh.get())) return *fresh.release();
  }
  return *found;
}

}  // namespace

void call_later(std::function<void()> work) { process().call(std::move(work)); }

Wakes::Wakes() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ >= 0) return;
  PyErr_SetFromErrno(PyExc_OSError);
  throw py::error_already_set();
}

Wakes::~Wakes() { ::close(descriptor_); }

void Wakes::wake(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  due_.push_back(ticket);
  if (due_.size() == 1) ::eventfd_write(descriptor_, 1);
}

std::vector<std::uint64_t> Wakes::take() {
  const std::lock_guard lock(mutex_);
  eventfd_t count = 0;
  ::eventfd_read(descriptor_, &count);
  return std::exchange(due_, {});
}

bool wait_aside(const std::function<bool()>& wait) {
  Process& here = process();
  ++here.waiting;
  PyThreadState* const state = PyEval_SaveThread();
  const bool outcome = wait();
  if (here.ending) {
    --here.waiting;
    // Asking for an interpreter that has ended would end the thread in the middle of C++.
    for (;;) ::pause();
  }
  PyEval_RestoreThread(state);
  --here.waiting;
  return outcome;
}

void let_go() {
  Process& here = process();
  here.ending = true;
  const py::gil_scoped_release release;
  while (here.waiting > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
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

py::tuple pair_of(farmesh::Span span) { return py::make_tuple(span.begin, span.end); }

py::list hops_of(const std::vector<farmesh::HopUsage>& hops) {
  using namespace py::literals;
  py::list told;
  for (const farmesh::HopUsage& hop : hops) {
    told.append(py::dict("peer"_a = hop.peer, "layers"_a = pair_of(hop.span), "ms"_a = hop.ms));
  }
  return told;
}

farmesh::Precision precision_of(const std::string& wanted) {
  for (const farmesh::Precision each :
       {farmesh::Precision::f32, farmesh::Precision::bf16, farmesh::Precision::f16,
        farmesh::Precision::int8, farmesh::Precision::int4}) {
    if (name(each) == wanted) return each;
  }
  throw py::value_error("precision is f32, bf16, f16, int8 or int4, not " + wanted);
}

void heed_signals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace farlabs

PYBIND11_MODULE(_farlabs, module) {
  namespace py = pybind11;
  module.attr("__version__") = std::string(farmesh::version());
  module.def("let_go", farlabs::let_go);
  py::class_<farlabs::Wakes, std::shared_ptr<farlabs::Wakes>>(module, "Wakes")
      .def(py::init())
      .def("fileno", &farlabs::Wakes::descriptor)
      .def("take", &farlabs::Wakes::take);
  farlabs::register_rows(module);
  farlabs::register_mesh(module);
  farlabs::register_session(module);
  farlabs::register_model(module);
  farlabs::register_peer(module);
  farlabs::register_ledger(module);
}
