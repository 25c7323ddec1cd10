// tokenizer.model behind the Tokenizer face, by libsentencepiece.
#pragma once

#include <memory>
#include <string_view>

#include <farmesh/result.hpp>

#include "text/tokenizer.hpp"
#include "text/tokenizer_settings.hpp"

namespace farmesh::text {

/// As parse_sentencepiece(), with what the files beside it say.
Result<std::shared_ptr<const Tokenizer>> make_sentencepiece_tokenizer(
    std::string_view model_proto, const TokenizerSettings& settings);

}  // namespace farmesh::text
