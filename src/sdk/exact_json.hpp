// JSON whose decimals stay text: an amount never goes through a double.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

namespace farmesh::sdk {

/// Numbers with a point or exponent become strings of their digits, as they were written. Discarded
/// (json::is_discarded) when `text` is no JSON, or nests deeper than 32.
nlohmann::json parse_exact(std::string_view text);

}  // namespace farmesh::sdk
