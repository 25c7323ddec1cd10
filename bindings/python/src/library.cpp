// The library's own types: DistributedModel, Peer and ContributionLedger, with the C++ names.
#include <optional>
#include <string>
#include <vector>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;
using std::chrono::milliseconds;

py::tuple pair_of(Span span) { return py::make_tuple(span.begin, span.end); }

// --- models

using Model = std::shared_ptr<DistributedModel>;

Model open_model(const std::string& folder, const std::vector<std::string>& peers,
                 const std::vector<std::string>& bootstrap, bool local, bool remote_head,
                 int threads) {
  ModelOptions options;
  options.folder = folder;
  options.peers = peers;
  options.discovery.bootstrap = bootstrap;
  options.local = local;
  options.remote_head = remote_head;
  options.threads = threads;
  return std::make_shared<DistributedModel>(
      value_of(wait_for([options] { return DistributedModel::open(options); })));
}

py::dict info_of(const DistributedModel& model) {
  const ModelSummary info = model.info();
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
  told["vocab_size"] = info.vocab_size;
  told["context_tokens"] = info.context_tokens;
  told["has_chat_template"] = info.has_chat_template;
  told["weight_bytes"] = info.weight_bytes;
  told["peers"] = peers;
  return told;
}

HeldSession open_session(const Model& model, std::uint32_t context_tokens,
                         std::uint32_t buffer_tokens, bool warm_standby) {
  return HeldSession(value_of(model->open_session({.context_tokens = context_tokens,
                                                   .buffer_tokens = buffer_tokens,
                                                   .warm_standby = warm_standby})));
}

void register_model(py::module_& module) {
  py::class_<DistributedModel, Model>(module, "DistributedModel",
                                      "A model wherever its layers are.")
      .def_static("open", open_model, py::arg("folder"), py::kw_only(),
                  py::arg("peers") = std::vector<std::string>{},
                  py::arg("bootstrap") = std::vector<std::string>{}, py::arg("local") = false,
                  py::arg("remote_head") = false, py::arg("threads") = 0,
                  "Loads what this process computes itself, then dials the peers.")
      .def(
          "encode",
          [](const DistributedModel& model, const std::string& text, bool add_special) {
            return value_of(model.encode(text, add_special));
          },
          py::arg("text"), py::arg("add_special") = true, "The text's token ids.")
      .def("decode", &DistributedModel::decode, py::arg("ids"), "The ids' text.")
      .def(
          "token_bytes",
          [](const DistributedModel& model, TokenId id) {
            return py::bytes(model.token_bytes(id));
          },
          py::arg("id"), "A token's own bytes; empty for special tokens.")
      .def("info", info_of, "What it is, and how its peers stand.")
      .def("open_session", open_session, py::kw_only(), py::arg("context_tokens") = 0,
           py::arg("buffer_tokens") = 64, py::arg("warm_standby") = false,
           "A conversation; nothing is sent before its first turn.");
}

// --- peers

using HeldPeer = Held<Peer>;

HeldPeer start_peer(const std::string& folder, std::pair<std::uint32_t, std::uint32_t> layers,
                    bool head, const std::string& listen, const std::vector<std::string>& bootstrap,
                    std::optional<std::uint16_t> dht_port, int threads,
                    const std::string& data_dir) {
  PeerOptions options;
  options.folder = folder;
  options.layers = {layers.first, layers.second};
  options.head = head;
  options.listen = listen;
  options.discovery.bootstrap = bootstrap;
  options.discovery.dht_port = dht_port;
  options.threads = threads;
  options.identity.data_dir = data_dir;
  return HeldPeer(value_of(wait_for([options] { return Peer::start(options); })));
}

void stop_peer(const HeldPeer& peer, double drain_seconds) {
  const py::gil_scoped_release release;
  peer->stop(milliseconds(std::int64_t(drain_seconds * 1e3)));
}

py::dict stats_of(const HeldPeer& peer) {
  const PeerStats stats = peer->stats();
  py::dict told;
  told["steps"] = stats.steps;
  told["rows"] = stats.rows;
  told["forwarded_bytes"] = stats.forwarded_bytes;
  told["sessions"] = stats.sessions;
  told["connections"] = stats.connections;
  told["weight_bytes"] = stats.weight_bytes;
  return told;
}

void register_peer(py::module_& module) {
  py::class_<HeldPeer>(module, "Peer", "Serves a run of a model's layers until it is stopped.")
      .def_static("start", start_peer, py::arg("folder"), py::arg("layers"), py::kw_only(),
                  py::arg("head") = false, py::arg("listen") = "127.0.0.1:0",
                  py::arg("bootstrap") = std::vector<std::string>{},
                  py::arg("dht_port") = py::none(), py::arg("threads") = 0,
                  py::arg("data_dir") = "",
                  "Loads the layers (first, one past the last) and begins to listen.")
      .def_property_readonly("address", [](const HeldPeer& peer) { return peer->address(); })
      .def_property_readonly("node_id", [](const HeldPeer& peer) { return peer->node_id(); })
      .def("stats", stats_of)
      .def("stop", stop_peer, py::arg("drain_seconds") = 0.0,
           "Takes no new sessions, lets the open ones end for so long, then closes.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](const HeldPeer& peer, const py::args&) { stop_peer(peer, 0); });
}

// --- the ledger

using Ledger = std::shared_ptr<ContributionLedger>;

Ledger open_ledger(const std::string& url) {
  LedgerOptions options;
  options.url = url;
  return std::make_shared<ContributionLedger>(
      value_of(wait_for([options] { return ContributionLedger::open(options); })));
}

py::dict session_dict(const SessionRecord& session) {
  py::list contributions;
  for (const Contribution& part : session.contributions) {
    py::dict row;
    row["node_id"] = part.node_id;
    row["wallet"] = part.wallet;
    row["tokens"] = part.tokens;
    row["layers"] = part.layers;
    row["payment_far"] = decimal(part.payment);
    row["payment_tx_hash"] = part.payment_tx_hash;
    row["is_paid"] = part.paid_at.has_value();
    contributions.append(row);
  }
  py::dict told;
  told["session_id"] = session.session_id;
  told["request_id"] = session.request_id;
  told["user_wallet"] = session.user_wallet;
  told["model_id"] = session.model_id;
  told["status"] = std::string(name(session.status));
  told["tokens_generated"] = session.tokens_generated;
  told["prompt_tokens"] = session.prompt_tokens;
  told["price_per_token_far"] = decimal(session.price_per_token);
  told["total_cost_far"] = decimal(session.total_cost);
  told["contributions"] = contributions;
  return told;
}

py::dict audit_of(const Ledger& ledger) {
  const AuditReport report = value_of(wait_for([ledger] { return ledger->audit(); }));
  py::list findings;
  for (const AuditFinding& finding : report.findings) {
    findings.append(py::make_tuple(finding.table, finding.row, finding.what));
  }
  py::dict told;
  told["findings"] = findings;
  told["sessions"] = report.sessions;
  told["contributions"] = report.contributions;
  told["receipts"] = report.receipts;
  told["earned_far"] = decimal(report.earned);
  told["paid_far"] = decimal(report.paid);
  return told;
}

void register_ledger(py::module_& module) {
  py::class_<ContributionLedger, Ledger>(module, "ContributionLedger",
                                         "Which session cost what, and what each node is owed.")
      .def_static("open", open_ledger, py::arg("url"),
                  "A SQLite file, or postgresql://…; it is migrated if need be.")
      .def(
          "session",
          [](const Ledger& ledger, const std::string& id) {
            return session_dict(value_of(wait_for([ledger, id] { return ledger->session(id); })));
          },
          py::arg("session_id"))
      .def(
          "session_of_request",
          [](const Ledger& ledger, const std::string& id) {
            return session_dict(
                value_of(wait_for([ledger, id] { return ledger->session_of_request(id); })));
          },
          py::arg("request_id"))
      .def("audit", audit_of, "Computes every sum again, and tells every difference.");
}

}  // namespace

void register_library(py::module_& module) {
  register_model(module);
  register_peer(module);
  register_ledger(module);
}

}  // namespace farlabs
