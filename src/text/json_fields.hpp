// Typed reading of one JSON object from a file that may say anything.
//
// The first field that is missing or of the wrong type is kept as the error; reading goes on
// with defaults, so that a parser reads all its fields and then asks once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <farmesh/result.hpp>

namespace farmesh::text {

/// Bounds of tokenizer.json's "Sequence" components.
inline constexpr std::size_t kMaxNested = 16;
inline constexpr std::size_t kMaxSteps = 64;

class JsonFields {
 public:
  /// `where` names the object in error messages. `object` must outlive this.
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail("is not an object");
  }

  /// The member, or null when it is absent or JSON null.
  const nlohmann::json* find(std::string_view key) const {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const nlohmann::json& require(std::string_view key) {
    static const nlohmann::json kNothing;
    const nlohmann::json* found = find(key);
    if (found == nullptr) fail("lacks \"" + std::string(key) + "\"");
    return found == nullptr ? kNothing : *found;
  }

  std::string text(std::string_view key) { return typed<std::string>(require(key), key, {}); }
  std::string text_or(std::string_view key, std::string fallback) {
    const nlohmann::json* found = find(key);
    return found == nullptr ? std::move(fallback) : typed<std::string>(*found, key, {});
  }
  bool boolean_or(std::string_view key, bool fallback) {
    const nlohmann::json* found = find(key);
    return found == nullptr ? fallback : typed<bool>(*found, key, fallback);
  }
  std::uint64_t number(std::string_view key) {
    return typed<nlohmann::json::number_unsigned_t>(require(key), key, 0);
  }

  std::string type() { return text("type"); }
  const std::optional<std::string>& problem() const { return problem_; }
  Error error(Errc code = Errc::tokenizer_malformed) const { return {code, *problem_}; }
  bool bad() const { return problem_.has_value(); }

 private:
  template <class T>
  T typed(const nlohmann::json& value, std::string_view key, T fallback) {
    const T* held = value.get_ptr<const T*>();
    if (held == nullptr) fail("has no usable \"" + std::string(key) + "\"");
    return held == nullptr ? std::move(fallback) : *held;
  }
  void fail(const std::string& what) {
    if (!problem_) problem_ = where_ + " " + what;
  }

  const nlohmann::json& object_;
  std::string where_;
  std::optional<std::string> problem_;
};

/// model_unsupported, naming a component of tokenizer.json.
inline Error unsupported(std::string_view part, std::string_view name) {
  constexpr std::size_t kLongestName = 64;
  return {Errc::model_unsupported,
          "tokenizer.json: " + std::string(part) + " " + std::string(name.substr(0, kLongestName))};
}

}  // namespace farmesh::text
