// A JSON body from a stranger, read field by field with strict types: the first fault is kept and
// names its field. Private to the gateway's codecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <farmesh/money.hpp>

#include "gateway/limits.hpp"
#include "gateway/problem.hpp"

namespace farmesh::gateway {

/// A JSON object of valid UTF-8 within the bounds above.
Checked<nlohmann::json> parse_body(std::string_view body);

class JsonFields {
 public:
  /// `where`: such as "messages[3]"; empty for the body itself.
  JsonFields(const nlohmann::json& object, std::string where = {});

  // Nothing when the field is absent, null, or wrong; wrong ones are told by problem().
  std::optional<std::string> text(std::string_view key, std::size_t max_bytes);
  std::optional<double> number(std::string_view key, double low, double high);
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high);
  std::optional<bool> flag(std::string_view key);
  /// An amount of $FAR that is not negative: a decimal string, so that no double ever holds it.
  std::optional<Far> amount(std::string_view key);
  /// Null when absent or null.
  const nlohmann::json* find(std::string_view key);

  std::string required_text(std::string_view key, std::size_t max_bytes);

  /// Fields that may only be absent or null.
  void refuse(std::initializer_list<std::string_view> keys);

  void fail(std::string_view key, std::string code, std::string message);
  void fail_type(std::string_view key, std::string_view expected, const nlohmann::json& got);
  void fail(Problem problem);
  /// Every field that was not asked for above is a fault too.
  void refuse_others();

  bool failed() const noexcept { return problem_.has_value(); }
  const Problem& problem() const noexcept { return *problem_; }
  std::string path(std::string_view key) const;

 private:
  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string, std::less<>> known_;
  std::optional<Problem> problem_;
};

}  // namespace farmesh::gateway
