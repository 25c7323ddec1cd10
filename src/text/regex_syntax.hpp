// Patterns as tokenizer.json writes them (Oniguruma's Ruby syntax), rewritten for PCRE2.
#pragma once

#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// The same pattern in PCRE2's syntax, for UTF mode. The two differ where real tokenizers live:
/// what \s, \w and \h mean, script names, "{1,3}+", "{,3}", "[" inside a class.
/// Fails with model_unsupported for a construct whose meaning could not be kept.
Result<std::string> to_pcre2(std::string_view pattern);

}  // namespace farmesh::text
