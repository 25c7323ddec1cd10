#include "cli/earnings.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace farmesh::cli {
namespace {

/// Takes the numbers of the outermost object as they are written.
class Numbers final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::optional<Far> total;
  std::optional<Far> pending;
  std::optional<std::uint64_t> tokens;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool number_integer(number_integer_t) override { return true; }  // below zero
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ == 1 && key_ == "total_tokens_served") tokens = value;
    return amount(std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& digits) override { return amount(digits); }
  bool start_object(std::size_t) override { return ++depth_ < kDeepest; }
  bool start_array(std::size_t) override { return ++depth_ < kDeepest; }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ == 1) key_ = name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  static constexpr int kDeepest = 8;

  bool amount(const std::string& digits) {
    if (depth_ != 1) return true;
    if (key_ == "total_earned_far") total = Far::parse(digits);
    if (key_ == "pending_payout_far") pending = Far::parse(digits);
    return true;
  }

  int depth_ = 0;
  std::string key_;
};

}  // namespace

std::optional<Earnings> read_earnings(std::string_view body) {
  Numbers numbers;
  if (!nlohmann::json::sax_parse(body, &numbers)) return std::nullopt;
  if (!numbers.total || !numbers.pending || !numbers.tokens) return std::nullopt;
  return Earnings{*numbers.total, *numbers.pending, *numbers.tokens};
}

std::string text_of(const Earnings& earnings) {
  return fmt::format("earned {} $FAR for {} tokens, {} $FAR of it not yet paid",
                     earnings.total.to_string(), earnings.tokens, earnings.pending.to_string());
}

}  // namespace farmesh::cli
