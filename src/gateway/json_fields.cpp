#include "gateway/json_fields.hpp"

#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace farmesh::gateway {

using nlohmann::json;

namespace {

// As people call them, not as the parser does.
std::string_view kind_of(const json& value) {
  switch (value.type()) {
    case json::value_t::object: return "an object";
    case json::value_t::array: return "an array";
    case json::value_t::string: return "a string";
    case json::value_t::boolean: return "a boolean";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned: return "an integer";
    case json::value_t::number_float: return "a decimal number";
    default: return "null";
  }
}

}  // namespace

Checked<json> parse_body(std::string_view body) {
  if (body.size() > kMaxBodyBytes) {
    return Problem{
        413, "body_too_large", fmt::format("The body is larger than {} bytes.", kMaxBodyBytes), {}};
  }
  std::size_t values = 0;
  bool too_much = false;
  const auto bounded = [&](int depth, json::parse_event_t event, json&) {
    if (depth > kMaxBodyDepth) too_much = true;
    if (event != json::parse_event_t::object_end && event != json::parse_event_t::array_end) {
      too_much = too_much || ++values > kMaxBodyValues;
    }
    return !too_much;
  };
  json parsed = json::parse(body, bounded, false);
  if (too_much) {
    return invalid_request("body_too_complex", "The JSON body is nested too deep or too long.");
  }
  if (parsed.is_discarded()) {
    return invalid_request("invalid_json", "The body is not valid JSON in UTF-8.");
  }
  if (!parsed.is_object()) {
    return invalid_request("invalid_json", "The body must be a JSON object.");
  }
  return parsed;
}

JsonFields::JsonFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {}

std::string JsonFields::path(std::string_view key) const {
  return where_.empty() ? std::string(key) : where_ + "." + std::string(key);
}

const json* JsonFields::find(std::string_view key) {
  known_.emplace(key);
  const auto at = object_.find(std::string(key));
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

void JsonFields::fail(Problem problem) {
  if (!problem_) problem_ = std::move(problem);
}

void JsonFields::fail(std::string_view key, std::string code, std::string message) {
  fail(invalid_request(std::move(code), std::move(message), path(key)));
}

void JsonFields::fail_type(std::string_view key, std::string_view expected, const json& got) {
  fail(key, "invalid_type",
       fmt::format("Invalid type for '{}': expected {}, but got {}.", path(key), expected,
                   kind_of(got)));
}

std::optional<std::string> JsonFields::text(std::string_view key, std::size_t max_bytes) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    fail_type(key, "a string", *value);
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    fail(key, "string_above_max_length",
         fmt::format("'{}' is longer than {} bytes.", path(key), max_bytes));
    return std::nullopt;
  }
  return text;
}

std::string JsonFields::required_text(std::string_view key, std::size_t max_bytes) {
  const bool was_fine = !failed();
  std::optional<std::string> value = text(key, max_bytes);
  if (value) return *std::move(value);
  if (was_fine && !failed()) {
    fail(key, "missing_required_parameter",
         fmt::format("Missing required parameter: '{}'.", path(key)));
  }
  return {};
}

std::optional<double> JsonFields::number(std::string_view key, double low, double high) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    fail_type(key, "a number", *value);
    return std::nullopt;
  }
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) {
    fail(key, "invalid_value",
         fmt::format("Invalid '{}': expected a number from {} to {}.", path(key), low, high));
    return std::nullopt;
  }
  return number;
}

std::optional<std::int64_t> JsonFields::integer(std::string_view key, std::int64_t low,
                                                std::int64_t high) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    fail_type(key, "an integer", *value);
    return std::nullopt;
  }
  const bool beyond =
      value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t(INT64_MAX);
  const std::int64_t number = beyond ? 0 : value->get<std::int64_t>();
  if (beyond || number < low || number > high) {
    fail(key, "invalid_value",
         fmt::format("Invalid '{}': expected an integer from {} to {}.", path(key), low, high));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> JsonFields::flag(std::string_view key) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    fail_type(key, "a boolean", *value);
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<Far> JsonFields::amount(std::string_view key) {
  const auto given = text(key, 32);
  if (!given) return std::nullopt;
  const std::optional<Far> amount = Far::parse(*given);
  if (!amount || amount->is_negative()) {
    fail(key, "invalid_value",
         fmt::format("Invalid '{}': expected a decimal such as \"0.05\", with at most 8 decimals.",
                     path(key)));
    return std::nullopt;
  }
  return amount;
}

void JsonFields::refuse(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (find(key) == nullptr) continue;
    fail(key, "unsupported_parameter",
         fmt::format("Unsupported parameter: '{}' is not served here yet.", path(key)));
  }
}

void JsonFields::refuse_others() {
  for (const auto& [key, value] : object_.items()) {
    if (known_.contains(key)) continue;
    // The name is a stranger's text: as much of it as tells which one it is.
    const std::string shown = key.size() > 64 ? "(a long name)" : key;
    fail(shown, "unknown_parameter",
         fmt::format("Unrecognized request argument supplied: {}", path(shown)));
    return;
  }
}

}  // namespace farmesh::gateway
