// What the model wants around one text: usually the BOS token before it.
#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <farmesh/result.hpp>

#include "base/types.hpp"

namespace farmesh::text {

struct Surroundings {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

/// `component` is tokenizer.json's "post_processor"; JSON null gives nothing.
/// Fails with tokenizer_malformed or model_unsupported.
Result<Surroundings> parse_post_processor(const nlohmann::json& component);

}  // namespace farmesh::text
