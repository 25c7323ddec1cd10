// tokenizer.json as read, before any of it is believed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// The two tables of a BPE model are taken out of the stream as they pass: as a JSON tree they
/// would be a million nodes. Everything else is small and stays a tree.
struct TokenizerFile {
  nlohmann::json rest;  // the whole document without model.vocab and model.merges
  std::vector<std::pair<std::string, std::uint64_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  bool has_vocabulary = false;
  bool has_merges = false;
};

/// Fails with tokenizer_malformed: not JSON, nested too deeply, or tables of the wrong types.
Result<TokenizerFile> read_tokenizer_json(std::string_view json);

/// A small JSON file beside a model. Nesting is bounded; fails with tokenizer_malformed.
Result<nlohmann::json> read_json(std::string_view json, std::string_view file_name);

}  // namespace farmesh::text
