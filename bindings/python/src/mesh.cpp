// FarMesh and its streams, as farlabs/_mesh.py wraps them.
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;
using std::chrono::milliseconds;

using Mesh = std::shared_ptr<FarMesh>;

using Stream = std::shared_ptr<MeshStream>;

std::string text(const Stream& stream) {
  while (next_of(*stream)) {
  }
  return value_of(stream->text());
}

py::tuple usage_of(const Stream& stream) {
  const MeshUsage usage = stream->usage();
  py::list nodes;
  for (const NodeUse& node : usage.nodes_used) {
    nodes.append(py::make_tuple(node.node_id, node.layers.begin, node.layers.end));
  }
  return py::make_tuple(usage.prompt_tokens, usage.tokens, usage.ttft_ms,
                        std::string(name(usage.finish)),
                        usage.cost ? decimal(*usage.cost) : py::none(), nodes, usage.resumed);
}

Stream generate(const Mesh& mesh, const std::string& prompt, const py::dict& options) {
  const AskOptions ask = options_of(options);
  const py::gil_scoped_release release;
  return shared(mesh->generate(prompt, ask));
}

Stream chat(const Mesh& mesh, const std::vector<std::pair<std::string, std::string>>& messages,
            const py::dict& options) {
  const AskOptions ask = options_of(options);
  std::vector<ChatMessage> told;
  for (const auto& [role, content] : messages) told.push_back({role, content});
  const py::gil_scoped_release release;
  return shared(mesh->chat(told, ask));
}

Mesh connect(const std::string& api_key, const std::string& base_url, const std::string& model,
             double connect_timeout, double timeout, int max_retries, const std::string& ca_file) {
  const auto ms = [](double seconds) { return milliseconds(std::int64_t(seconds * 1e3)); };
  ConnectOptions options;
  options.api_key = api_key;
  options.base_url = base_url;
  options.model = model;
  options.connect_timeout = ms(connect_timeout);
  options.timeout = ms(timeout);
  options.max_retries = max_retries;
  options.ca_file = ca_file;
  return shared(value_of(FarMesh::connect(std::move(options))));
}

Mesh open(const std::string& folder, const std::vector<std::string>& bootstrap,
          const std::vector<std::string>& peers, bool local, bool remote_head,
          const std::string& draft_model, int threads, const std::string& join_token_file) {
  ModelOptions options;
  options.folder = folder;
  options.peers = peers;
  options.local = local;
  options.remote_head = remote_head;
  options.draft_model = draft_model;
  options.threads = threads;
  options.identity.join_token_file = join_token_file;
  options.discovery.bootstrap = bootstrap;
  return shared(value_of(wait_for([options] { return FarMesh::open(options); })));
}

py::list models(const Mesh& mesh) {
  py::list rows;
  for (const MeshModel& model : value_of(wait_for([mesh] { return mesh->models(); }))) {
    rows.append(py::make_tuple(model.model_id, model.active_nodes, decimal(model.price_per_token),
                               model.available));
  }
  return rows;
}

py::tuple status(const Mesh& mesh, const std::string& model) {
  const MeshStatus now = value_of(wait_for([mesh, model] { return mesh->status(model); }));
  return py::make_tuple(now.model_id, now.active_nodes, now.active_sessions,
                        decimal(now.price_per_token), now.connected);
}

py::tuple earnings(const Mesh& mesh, const std::string& wallet) {
  const MeshEarnings earned = value_of(wait_for([mesh, wallet] { return mesh->earnings(wallet); }));
  py::list history;
  for (const DailyEarning& day : earned.history) {
    history.append(py::make_tuple(day.date, decimal(day.amount)));
  }
  return py::make_tuple(earned.wallet, decimal(earned.total), decimal(earned.pending),
                        earned.tokens_served, earned.active_nodes, earned.avg_uptime_percent,
                        history);
}

}  // namespace

AskOptions options_of(const py::dict& given) {
  AskOptions options;
  SamplingOptions& sampling = options.sampling;
  std::size_t known = 0;
  const auto read = [&given, &known](const char* key, auto& field) {
    if (!given.contains(key)) return;
    ++known;
    read_option(key, given[key], field);
  };
  read("model", options.model);
  read("max_tokens", options.max_tokens);
  read("temperature", sampling.temperature);
  read("top_p", sampling.top_p);
  read("top_k", sampling.top_k);
  read("min_p", sampling.min_p);
  read("repetition_penalty", sampling.repetition_penalty);
  read("presence_penalty", sampling.presence_penalty);
  read("frequency_penalty", sampling.frequency_penalty);
  read("stop", options.stop);
  read("ignore_eos", options.ignore_eos);
  std::map<std::uint32_t, float> biases;
  read("logit_bias", biases);
  for (const auto& [token, bias] : biases) sampling.logit_bias.push_back({token, bias});
  std::int64_t seed = 0;
  read("seed", seed);
  if (given.contains("seed")) options.seed = std::uint64_t(seed);
  std::string cost;
  read("max_cost_far", cost);
  if (!cost.empty()) {
    options.max_cost = Far::parse(cost);
    if (!options.max_cost) throw py::value_error("max_cost_far is no amount of $FAR");
  }
  if (known != given.size()) {
    throw py::type_error("there is no such option among " + std::string(py::repr(given)));
  }
  return options;
}

void register_mesh(py::module_& module) {
  py::class_<MeshStream, Stream>(module, "Stream")
      .def("next", next_of<MeshStream>)
      .def("ready", [](const Stream& stream) { return stream->wait(milliseconds(0)); })
      .def("on_ready", on_ready<MeshStream>)
      .def("text", text)
      .def("close", &MeshStream::close)
      .def("usage", usage_of)
      .def("request_id", &MeshStream::request_id);

  py::class_<FarMesh, Mesh>(module, "Mesh")
      .def_static("connect", connect)
      .def_static("open", open)
      .def("generate", generate)
      .def("chat", chat)
      .def("models", models)
      .def("status", status)
      .def("earnings", earnings);
}

}  // namespace farlabs
