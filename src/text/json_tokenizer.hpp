// tokenizer.json behind the Tokenizer face.
#pragma once

#include <memory>
#include <string_view>

#include <farmesh/result.hpp>

#include "text/tokenizer.hpp"
#include "text/tokenizer_settings.hpp"

namespace farmesh::text {

/// As parse_tokenizer_json(), with what the files beside it say.
Result<std::shared_ptr<const Tokenizer>> make_json_tokenizer(std::string_view json,
                                                             const TokenizerSettings& settings);

}  // namespace farmesh::text
