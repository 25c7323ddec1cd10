// Whether an answer is what the OpenAPI document says of it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace farmesh::test {

inline bool is_of_type(const std::string& type, const nlohmann::json& value) {
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  return type == "null" && value.is_null();
}

// Why `value` is not what a schema of the document says; empty when it is. A field that the schema
// does not name is a fault as well: the document is to be whole.
inline std::string fault(const nlohmann::json& document, const nlohmann::json& schema,
                         const nlohmann::json& value) {
  if (schema.contains("$ref")) {
    const std::string pointer = schema.at("$ref").get<std::string>().substr(1);
    return fault(document, document.at(nlohmann::json::json_pointer(pointer)), value);
  }
  if (schema.contains("const") && schema.at("const") != value) return "not " + schema.dump();
  if (schema.contains("type")) {
    const nlohmann::json types = schema.at("type").is_array()
                                     ? schema.at("type")
                                     : nlohmann::json::array({schema.at("type")});
    bool fits = false;
    for (const nlohmann::json& type : types) fits = fits || is_of_type(type, value);
    if (!fits) return value.dump() + " is not " + types.dump();
  }
  for (const nlohmann::json& key : schema.value("required", nlohmann::json::array())) {
    if (!value.contains(key.get<std::string>())) return "lacks " + key.dump();
  }
  if (value.is_object() && schema.contains("properties")) {
    for (const auto& [key, field] : value.items()) {
      if (!schema.at("properties").contains(key)) return key + " is not described";
      const std::string inner = fault(document, schema.at("properties").at(key), field);
      if (!inner.empty()) return key + ": " + inner;
    }
  }
  if (value.is_array() && schema.contains("items")) {
    for (const nlohmann::json& item : value) {
      const std::string inner = fault(document, schema.at("items"), item);
      if (!inner.empty()) return inner;
    }
  }
  return {};
}

}  // namespace farmesh::test
