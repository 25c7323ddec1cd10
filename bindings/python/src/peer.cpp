// Peer: serves a run of a model's layers, with the C++ names.
#include <optional>
#include <string>
#include <vector>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;
using std::chrono::milliseconds;

using Held = std::shared_ptr<Peer>;

Held start_peer(const std::string& folder, std::pair<std::uint32_t, std::uint32_t> layers,
                bool head, const std::string& listen, const std::vector<std::string>& bootstrap,
                std::optional<std::uint16_t> dht_port, int threads, const std::string& data_dir,
                const std::optional<std::string>& precision) {
  PeerOptions options;
  options.folder = folder;
  options.layers = {layers.first, layers.second};
  options.head = head;
  options.listen = listen;
  options.discovery.bootstrap = bootstrap;
  options.discovery.dht_port = dht_port;
  options.threads = threads;
  if (precision) options.precision = precision_of(*precision);
  options.identity.data_dir = data_dir;
  return shared(value_of(wait_for([options] { return Peer::start(options); })));
}

void stop_peer(const Held& peer, double drain_seconds) {
  const py::gil_scoped_release release;
  peer->stop(milliseconds(std::int64_t(drain_seconds * 1e3)));
}

py::dict stats_of(const Held& peer) {
  const PeerStats stats = [&] {
    const py::gil_scoped_release release;
    return peer->stats();
  }();
  py::dict told;
  told["steps"] = stats.steps;
  told["rows"] = stats.rows;
  told["forwarded_bytes"] = stats.forwarded_bytes;
  told["sessions"] = stats.sessions;
  told["connections"] = stats.connections;
  told["weight_bytes"] = stats.weight_bytes;
  return told;
}

}  // namespace

void register_peer(py::module_& module) {
  py::class_<Peer, Held>(module, "Peer", "Serves a run of a model's layers until it is stopped.")
      .def_static("start", start_peer, py::arg("folder"), py::arg("layers"), py::kw_only(),
                  py::arg("head") = false, py::arg("listen") = "127.0.0.1:0",
                  py::arg("bootstrap") = std::vector<std::string>{},
                  py::arg("dht_port") = py::none(), py::arg("threads") = 0,
                  py::arg("data_dir") = "", py::arg("precision") = py::none(),
                  "Loads the layers (first, one past the last) and begins to listen.")
      .def_property_readonly("address", [](const Held& peer) { return peer->address(); })
      .def_property_readonly("node_id", [](const Held& peer) { return peer->node_id(); })
      .def("stats", stats_of)
      .def("stop", stop_peer, py::arg("drain_seconds") = 0.0,
           "Takes no new sessions, lets the open ones end for so long, then closes.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](const Held& peer, const py::args&) { stop_peer(peer, 0); });
}

}  // namespace farlabs
