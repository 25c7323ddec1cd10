// The bytes that each token stands for inside a text: tokenizer.json's "decoder", which is made
// for whole texts, told for one token at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

namespace farmesh::text {

class JsonFields;

class TokenDecoder {
 public:
  /// Fails with tokenizer_malformed or model_unsupported.
  static Result<TokenDecoder> create(const nlohmann::json& component);

  /// Bytes of a token of the model (valid UTF-8).
  std::string bytes(std::string_view token) const;

  bool strips_leading_space() const noexcept { return strips_leading_space_; }

 private:
  Result<void> add(const nlohmann::json& component, std::size_t depth);
  Result<void> add_replace(JsonFields& fields);
  Result<void> add_metaspace(JsonFields& fields);
  Result<void> add_strip(JsonFields& fields);

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fused_ = false;
  bool strips_leading_space_ = false;
  std::vector<std::pair<std::string, std::string>> replacements_;
};

/// The byte that "<0x0A>" stands for, if `token` has that form.
std::optional<std::uint8_t> byte_token(std::string_view token);

}  // namespace farmesh::text
