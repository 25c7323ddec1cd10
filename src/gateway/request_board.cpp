#include "gateway/request_board.hpp"

#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace farmesh::gateway {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

json nodes_of(const PlatformAnswer& answer) {
  json nodes = json::array();
  for (const NodeUsed& node : answer.nodes) {
    nodes.push_back({node.node_id, node.layers.begin, node.layers.end});
  }
  return nodes;
}

}  // namespace

std::string encode_record(const RequestRecord& record) {
  const PlatformAnswer& answer = record.answer;
  json object{{"v", kVersion},
              {"status", int(record.status)},
              {"owner", record.owner},
              {"body_digest", record.body_digest},
              {"stream", record.stream},
              {"request_id", answer.request_id},
              {"model_id", answer.model_id},
              {"text", json::binary({answer.text.begin(), answer.text.end()})},
              {"tokens", answer.tokens_generated},
              {"cost", answer.cost.units()},
              {"latency_ms", answer.latency_ms},
              {"finish", answer.finish},
              {"nodes", nodes_of(answer)},
              {"fallback", answer.fallback}};
  if (record.problem) {
    object["problem"] = {record.problem->status, record.problem->code, record.problem->message};
  }
  const std::vector<std::uint8_t> bytes = json::to_cbor(object);
  return {bytes.begin(), bytes.end()};
}

Result<RequestRecord> decode_record(std::string_view bytes) {
  const Error malformed{Errc::config_invalid, "a request's record of another version"};
  const json object = json::from_cbor(bytes.begin(), bytes.end(), true, false);
  if (!object.is_object() || object.value("v", 0) != kVersion) return malformed;
  RequestRecord record;
  PlatformAnswer& answer = record.answer;
  try {  // sealed bytes are our own: only another version's can be of another shape
    const int status = object.at("status").get<int>();
    if (status < 0 || status > int(RequestStatus::cancelled)) return malformed;
    record.status = RequestStatus(status);
    object.at("owner").get_to(record.owner);
    object.at("body_digest").get_to(record.body_digest);
    object.at("stream").get_to(record.stream);
    object.at("request_id").get_to(answer.request_id);
    object.at("model_id").get_to(answer.model_id);
    const auto& text = object.at("text").get_binary();
    answer.text.assign(text.begin(), text.end());
    object.at("tokens").get_to(answer.tokens_generated);
    answer.cost = Far::from_units(object.at("cost").get<std::int64_t>());
    object.at("latency_ms").get_to(answer.latency_ms);
    object.at("finish").get_to(answer.finish);
    for (const json& node : object.at("nodes")) {
      answer.nodes.push_back(
          {node.at(0), {node.at(1).get<std::uint32_t>(), node.at(2).get<std::uint32_t>()}});
    }
    object.at("fallback").get_to(answer.fallback);
    if (object.contains("problem")) {
      const json& problem = object["problem"];
      record.problem = Problem{problem.at(0), problem.at(1), problem.at(2), {}};
    }
  } catch (const json::exception&) {
    return malformed;
  }
  return record;
}

}  // namespace farmesh::gateway
