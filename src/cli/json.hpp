// The program's JSON: one object a line, fields in the order of docs/cli.md.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

namespace farmesh::cli {

/// `id`, `text`; with log-probabilities also `logprob`, `top`.
nlohmann::ordered_json json_of(const Token& token);
/// `error` (the stable name), `number`, `detail`.
nlohmann::ordered_json json_of(const Error& error);
/// `prompt_tokens`, `tokens`, `seed`, `ttft_ms`, `tokens_per_second`, `finish`, `hops`,
/// `recoveries`.
void append_usage(nlohmann::ordered_json& object, const Usage& usage, std::uint64_t seed);

/// On one line, with its end; bytes that are no UTF-8 become U+FFFD.
std::string to_line(const nlohmann::ordered_json& object);

}  // namespace farmesh::cli
