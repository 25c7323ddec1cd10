// DistributedModel: a model wherever its layers are, with the C++ names.
#include <optional>
#include <string>
#include <vector>

#include "binding.hpp"
#include "rows.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

using Model = std::shared_ptr<DistributedModel>;

Model open_model(const std::string& folder, const std::vector<std::string>& peers,
                 const std::vector<std::string>& bootstrap, bool local, bool remote_head,
                 const std::string& draft_model, int threads,
                 const std::optional<std::string>& precision) {
  ModelOptions options;
  options.folder = folder;
  options.peers = peers;
  options.discovery.bootstrap = bootstrap;
  options.local = local;
  options.remote_head = remote_head;
  options.draft_model = draft_model;
  options.threads = threads;
  if (precision) options.precision = precision_of(*precision);
  return shared(value_of(wait_for([options] { return DistributedModel::open(options); })));
}

py::dict info_of(const Model& model) {
  const ModelSummary info = [&] {
    const py::gil_scoped_release release;
    return model->info();
  }();
  py::list peers;
  for (const PeerStatus& peer : info.peers) {
    py::dict row;
    row["address"] = peer.address;
    row["node_id"] = peer.node_id;
    row["connected"] = peer.connected;
    row["layers"] = pair_of(peer.layers);
    row["head"] = peer.head;
    row["round_trip_ms"] = peer.round_trip_ms;
    row["refused"] =
        peer.refused ? py::object(py::str(peer.refused->to_string())) : py::object(py::none());
    peers.append(row);
  }
  py::dict told;
  told["model_id"] = info.model_id;
  told["model_hash"] = info.model_hash;
  told["numerics_class"] = info.numerics_class;
  told["architecture"] = info.architecture;
  told["num_layers"] = info.num_layers;
  told["hidden_size"] = info.hidden_size;
  told["hidden_dtype"] = std::string(name(info.hidden_dtype));
  told["vocab_size"] = info.vocab_size;
  told["context_tokens"] = info.context_tokens;
  told["has_chat_template"] = info.has_chat_template;
  told["weight_bytes"] = info.weight_bytes;
  told["peers"] = peers;
  return told;
}

SessionOptions session_options(std::uint32_t context_tokens, bool warm_standby) {
  SessionOptions options;
  options.context_tokens = context_tokens;
  options.warm_standby = warm_standby;
  return options;
}

std::shared_ptr<Session> open_session(const Model& model, std::uint32_t context_tokens,
                                      std::uint32_t buffer_tokens, bool warm_standby) {
  SessionOptions options = session_options(context_tokens, warm_standby);
  options.buffer_tokens = buffer_tokens;
  return shared(value_of(model->open_session(options)));
}

std::shared_ptr<HiddenSession> open_hidden_session(const Model& model, std::uint32_t context_tokens,
                                                   bool warm_standby) {
  return shared(
      value_of(model->open_hidden_session(session_options(context_tokens, warm_standby))));
}

Rows embed(const Model& model, const std::vector<TokenId>& ids) {
  return value_of(wait_for([model, ids] { return model->embed(ids); }));
}

Rows logits(const Model& model, const py::handle& hidden_states) {
  const Rows hidden = rows_of(hidden_states);
  return value_of(wait_for([model, hidden] { return model->logits(hidden); }));
}

}  // namespace

void register_model(py::module_& module) {
  py::class_<DistributedModel, Model>(module, "DistributedModel",
                                      "A model wherever its layers are.")
      .def_static("open", open_model, py::arg("folder"), py::kw_only(),
                  py::arg("peers") = std::vector<std::string>{},
                  py::arg("bootstrap") = std::vector<std::string>{}, py::arg("local") = false,
                  py::arg("remote_head") = false, py::arg("draft_model") = "",
                  py::arg("threads") = 0, py::arg("precision") = py::none(),
                  "Loads what this process computes itself, then dials the peers.")
      .def(
          "encode",
          [](const Model& model, const std::string& text, bool add_special) {
            return value_of(model->encode(text, add_special));
          },
          py::arg("text"), py::arg("add_special") = true, "The text's token ids.")
      .def("decode", &DistributedModel::decode, py::arg("ids"), "The ids' text.")
      .def(
          "token_bytes",
          [](const Model& model, TokenId id) { return py::bytes(model->token_bytes(id)); },
          py::arg("id"), "A token's own bytes; empty for special tokens.")
      .def("info", info_of, "What it is, and how its peers stand.")
      .def("open_session", open_session, py::kw_only(), py::arg("context_tokens") = 0,
           py::arg("buffer_tokens") = 64, py::arg("warm_standby") = false,
           "A conversation; nothing is sent before its first turn.")
      .def("open_hidden_session", open_hidden_session, py::kw_only(), py::arg("context_tokens") = 0,
           py::arg("warm_standby") = false,
           "The layers alone; nothing is sent before the first hidden states.")
      .def("embed", embed, py::arg("ids"), "What the layers are given for these tokens.")
      .def("logits", logits, py::arg("hidden_states"),
           "What the head makes of the layers' output, of at most 256 rows: [rows, vocabulary].");
}

}  // namespace farlabs
