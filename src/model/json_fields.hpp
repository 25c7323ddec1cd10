// Typed, bounded reads from a JSON object, remembering the first field that cannot be used.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <farmesh/result.hpp>

namespace farmesh::model {

/// A field that is absent or null gives the fallback; one of the wrong type or out of range
/// gives the fallback too, and an error. The object must outlive this.
class JsonFields {
 public:
  /// `where` starts the error text, such as "config.json".
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  /// Null when absent or null.
  const nlohmann::json* find(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }

  bool says_null(const char* key) const {
    const auto at = object_.find(key);
    return at != object_.end() && at->is_null();
  }

  std::uint32_t count(const char* key, std::uint32_t fallback, std::uint32_t least,
                      std::uint32_t most) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_number_unsigned()) {
      const auto number = value->get<std::uint64_t>();
      if (number >= least && number <= most) return static_cast<std::uint32_t>(number);
    }
    fail(std::string(key) + " must be an integer from " + std::to_string(least) + " to " +
         std::to_string(most));
    return fallback;
  }

  /// Like count(), but the field must be there.
  std::uint32_t required_count(const char* key, std::uint32_t least, std::uint32_t most) {
    if (find(key) == nullptr) fail(std::string(key) + " is missing");
    return count(key, least, least, most);
  }

  /// Above `least`, finite.
  double number(const char* key, double fallback, double least) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_number()) {
      const auto number = value->get<double>();
      if (std::isfinite(number) && number > least) return number;
    }
    fail(std::string(key) + " must be a number above " + std::to_string(least));
    return fallback;
  }

  bool flag(const char* key, bool fallback) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    fail(std::string(key) + " must be true or false");
    return fallback;
  }

  std::string text(const char* key, std::string fallback) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_string()) return value->get<std::string>();
    fail(std::string(key) + " must be a string");
    return fallback;
  }

  /// Keeps the first error only.
  void fail(const std::string& problem, Errc code = Errc::model_malformed) {
    if (!error_) error_ = Error{code, where_ + ": " + problem};
  }

  const std::optional<Error>& error() const noexcept { return error_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::optional<Error> error_;
};

}  // namespace farmesh::model
