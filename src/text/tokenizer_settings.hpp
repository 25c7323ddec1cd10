// What the files beside a tokenizer say about it: tokenizer_config.json, special_tokens_map.json
// and added_tokens.json. All are optional, and so is everything in them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

#include "text/added_tokens.hpp"

namespace farmesh::text {

struct TokenizerSettings {
  std::optional<std::string> bos;  // the token's text
  std::optional<std::string> eos;
  std::optional<bool> add_bos;  // overrules what the tokenizer itself would add
  std::optional<bool> add_eos;
  bool legacy = true;  // SentencePiece: every stretch between special tokens gets a space before it
  std::vector<AddedToken> added;  // for SentencePiece models, whose file cannot hold them
};

/// Fails with tokenizer_malformed or io_error when a file is there but cannot be used.
Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder);

/// A special token as these files write it: a string, or an object with "content".
std::optional<std::string> token_text(const nlohmann::json& value);

/// The parsed file, or JSON null when it does not exist.
Result<nlohmann::json> read_optional_json(const std::filesystem::path& path);

}  // namespace farmesh::text
