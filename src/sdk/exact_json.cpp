#include "sdk/exact_json.hpp"

#include <string>
#include <utility>
#include <vector>

namespace farmesh::sdk {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 32;

/// Builds the document from the parser's events.
class Builder final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return add(nullptr); }
  bool boolean(bool v) override { return add(v); }
  bool number_integer(number_integer_t v) override { return add(v); }
  bool number_unsigned(number_unsigned_t v) override { return add(v); }
  bool number_float(number_float_t, const string_t& digits) override { return add(digits); }
  bool string(string_t& v) override { return add(std::move(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    keys_.back() = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

  json take() { return std::move(root_); }

 private:
  bool add(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().push_back(std::move(value));
    } else {
      open_.back()[keys_.back()] = std::move(value);
    }
    return true;
  }
  bool open(json empty) {
    if (open_.size() == kMaxDepth) return false;
    open_.push_back(std::move(empty));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    json whole = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return add(std::move(whole));
  }

  json root_;
  std::vector<json> open_;         // from the outermost inwards
  std::vector<std::string> keys_;  // of each, the one being read
};

}  // namespace

json parse_exact(std::string_view text) {
  Builder builder;
  if (!json::sax_parse(text, &builder)) return json(json::value_t::discarded);
  return builder.take();
}

}  // namespace farmesh::sdk
