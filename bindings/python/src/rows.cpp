// Rows and HiddenSession: hidden states as NumPy, torch and others have them, without a copy.
#include "rows.hpp"

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "binding.hpp"
#include "dlpack.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

[[noreturn]] void refuse(const std::string& what) {
  raise(mesh_error({Errc::invalid_argument, what}));
}

std::uint32_t sized(std::int64_t size) {
  if (size < 0 || size > std::int64_t{UINT32_MAX}) refuse("a tensor of that size");
  return std::uint32_t(size);
}

// --- from Python

Rows of_buffer(const py::handle& given) {
  auto* const view = new Py_buffer;
  if (PyObject_GetBuffer(given.ptr(), view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
    delete view;
    py::raise_from(PyExc_TypeError, "hidden states must be one row after the other in memory");
    throw py::error_already_set();
  }
  Rows rows;
  rows.owner = std::shared_ptr<const void>(view->buf, [view](const void*) {
    call_later([view] {
      PyBuffer_Release(view);
      delete view;
    });
  });
  if (view->ndim != 2)
    refuse("hidden states are [n, hidden], not of " + std::to_string(view->ndim) + " dimensions");
  const std::string format = view->format == nullptr ? "B" : view->format;
  const std::string element = format.substr(format.find_first_not_of("<=@"));
  if (element == "f") {
    rows.dtype = DType::f32;
  } else if (element == "H") {
    rows.dtype = DType::bf16;  // NumPy has none: the bits
  } else {
    refuse("hidden states of the buffer format '" + format +
           "'; 'f' is f32, and 'H' the bits of bf16");
  }
  rows.count = sized(view->shape[0]);
  rows.columns = sized(view->shape[1]);
  rows.bytes = {static_cast<const std::byte*>(view->buf), std::size_t(view->len)};
  return rows;
}

Rows of_dlpack(const py::handle& given) {
  const auto device = given.attr("__dlpack_device__")().cast<std::pair<int, int>>();
  if (device.first != dlpack::kCpu && device.first != dlpack::kPinned) {
    refuse("hidden states must be in main memory, not on device " + std::to_string(device.first));
  }
  const py::object capsule = given.attr("__dlpack__")();
  void* const inside = PyCapsule_GetPointer(capsule.ptr(), dlpack::kName);
  if (inside == nullptr) throw py::error_already_set();
  auto* const managed = static_cast<dlpack::Managed*>(inside);
  PyCapsule_SetName(capsule.ptr(), dlpack::kUsedName);  // ours to take down from here on
  Rows rows;
  rows.owner = std::shared_ptr<const void>(managed, [managed](const void*) {
    call_later([managed] {
      if (managed->deleter != nullptr) managed->deleter(managed);
    });
  });
  const dlpack::Tensor& tensor = managed->tensor;
  if (tensor.ndim != 2) {
    refuse("hidden states are [n, hidden], not of " + std::to_string(tensor.ndim) + " dimensions");
  }
  const std::int64_t* const strides = tensor.strides;
  const bool dense = strides == nullptr || ((tensor.shape[1] < 2 || strides[1] == 1) &&
                                            (tensor.shape[0] < 2 || strides[0] == tensor.shape[1]));
  if (!dense) refuse("hidden states must be one row after the other in memory");
  const auto [code, bits, lanes] = tensor.dtype;
  if (code == dlpack::kFloat && bits == 32 && lanes == 1) {
    rows.dtype = DType::f32;
  } else if (code == dlpack::kBfloat && bits == 16 && lanes == 1) {
    rows.dtype = DType::bf16;
  } else {
    refuse("hidden states are float32 or bfloat16");
  }
  rows.count = sized(tensor.shape[0]);
  rows.columns = sized(tensor.shape[1]);
  rows.bytes = {static_cast<const std::byte*>(tensor.data) + tensor.byte_offset,
                std::size_t{rows.count} * rows.columns * bytes_of(rows.dtype)};
  return rows;
}

}  // namespace

Rows rows_of(const py::handle& given) {
  if (py::isinstance<Rows>(given)) return given.cast<Rows>();
  if (PyObject_CheckBuffer(given.ptr()) != 0) return of_buffer(given);
  if (py::hasattr(given, "__dlpack__")) return of_dlpack(given);
  throw py::type_error(
      "hidden states are Rows, a NumPy array or another tensor with __dlpack__, "
      "not " +
      std::string(py::str(py::type::of(given))));
}

namespace {

// --- to Python

py::buffer_info buffer_of(const Rows& rows) {
  const auto size = py::ssize_t(bytes_of(rows.dtype));
  return py::buffer_info(const_cast<std::byte*>(rows.bytes.data()), size,
                         rows.dtype == DType::f32 ? "f" : "H", 2, {rows.count, rows.columns},
                         {py::ssize_t(rows.columns) * size, size}, /*readonly=*/true);
}

/// What a capsule's tensor points to.
struct Exported {
  Rows rows;
  std::array<std::int64_t, 2> shape;
};

template <class Managed>
py::capsule capsule_of(const Rows& rows, const char* name) {
  auto* const exported = new Exported{rows, {rows.count, rows.columns}};
  auto* const managed = new Managed{};
  managed->context = exported;
  managed->deleter = [](Managed* last) {
    delete static_cast<Exported*>(last->context);
    delete last;
  };
  managed->tensor.data = const_cast<std::byte*>(rows.bytes.data());
  managed->tensor.device = {dlpack::kCpu, 0};
  managed->tensor.ndim = 2;
  managed->tensor.dtype = rows.dtype == DType::f32 ? dlpack::DataType{dlpack::kFloat, 32, 1}
                                                   : dlpack::DataType{dlpack::kBfloat, 16, 1};
  managed->tensor.shape = exported->shape.data();
  if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) {
    managed->version = {1, 0};
    managed->flags = dlpack::kReadOnly;
  }
  return py::capsule(managed, name, [](PyObject* capsule) {
    // Under another name it is somebody else's by now.
    const char* const name = PyCapsule_GetName(capsule);
    if (std::string_view(name).starts_with("used_")) return;
    auto* const unused = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
    unused->deleter(unused);
  });
}

py::capsule to_dlpack(const Rows& rows, const py::object&, std::optional<std::pair<int, int>> most,
                      std::optional<std::pair<int, int>> device, std::optional<bool> copy) {
  if (device && device->first != dlpack::kCpu) throw py::buffer_error("it is in main memory");
  if (copy.value_or(false)) throw py::buffer_error("it is shared, not copied");
  return most && most->first >= 1
             ? capsule_of<dlpack::ManagedVersioned>(rows, dlpack::kVersionedName)
             : capsule_of<dlpack::Managed>(rows, dlpack::kName);
}

// --- sessions of hidden states

using Hidden = std::shared_ptr<HiddenSession>;

Rows run(const Hidden& session, const py::handle& hidden_states) {
  const Rows input = rows_of(hidden_states);
  Result<Rows> output = [&] {
    try {
      return wait_for([session, input] { return session->run(input); });
    } catch (const py::error_already_set&) {  // Ctrl-C: nobody waits any more
      session->cancel();
      throw;
    }
  }();
  return value_of(std::move(output));
}

void truncate(const Hidden& session, std::uint32_t position) {
  Result<void> done = [&] {
    const py::gil_scoped_release release;
    return session->truncate(position);
  }();
  value_of(std::move(done));
}

py::list hops(const Hidden& session) {
  const std::vector<HopUsage> hops = [&] {
    const py::gil_scoped_release release;
    return session->hops();
  }();
  return hops_of(hops);
}

}  // namespace

void register_rows(py::module_& module) {
  py::class_<Rows>(module, "Rows", py::buffer_protocol(),
                   "Rows of numbers, [rows, columns], that others read where they lie: "
                   "numpy.asarray(), torch.from_dlpack(). NumPy has no bf16, and sees its bits.")
      .def_buffer(buffer_of)
      .def_property_readonly(
          "shape", [](const Rows& rows) { return py::make_tuple(rows.count, rows.columns); })
      .def_property_readonly("dtype",
                             [](const Rows& rows) { return std::string(name(rows.dtype)); })
      .def("__len__", [](const Rows& rows) { return rows.count; })
      .def("__dlpack__", to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const Rows&) { return py::make_tuple(dlpack::kCpu, 0); });

  py::class_<HiddenSession, Hidden>(module, "HiddenSession",
                                    "A model's layers without its words: hidden states go in, and "
                                    "come out behind the last layer.")
      .def(
          "run", run, py::arg("hidden_states"),
          "Runs [n, hidden] behind the rows before them. They are kept, not copied, until they are "
          "forgotten: nobody may change them.")
      .def_property_readonly("position", &HiddenSession::position)
      .def("truncate", truncate, py::arg("position"), "Forgets the rows from there on.")
      .def("cancel", &HiddenSession::cancel,
           "Ends a run under way, and frees the cache on every peer.")
      .def("hops", hops, "Who computed the last run.");
}

}  // namespace farlabs
