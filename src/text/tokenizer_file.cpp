#include "text/tokenizer_file.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 64;

/// Receives nlohmann's parse events. Every handler returns false to stop at the first problem.
class Reader final : public nlohmann::json_sax<json> {
 public:
  Reader(TokenizerFile& file, bool take_tables) : file_(file), take_tables_(take_tables) {}

  const std::string& problem() const { return problem_; }

  bool null() override { return value(json(nullptr)); }
  bool boolean(bool v) override { return value(json(v)); }
  bool number_integer(number_integer_t v) override { return value(json(v)); }
  bool number_unsigned(number_unsigned_t v) override {
    if (table_ != Table::vocabulary) return value(json(v));
    file_.vocabulary.emplace_back(std::move(key_), v);
    return true;
  }
  bool number_float(number_float_t v, const string_t&) override { return value(json(v)); }
  bool string(string_t& v) override {
    if (table_ == Table::merges) return merge_text(v);
    return value(json(std::move(v)));
  }
  bool binary(binary_t&) override { return fail("binary data"); }

  bool start_object(std::size_t) override {
    if (table_ != Table::none) return fail("a table holds an object");
    if (take_tables_ && at_model("vocab")) {
      if (file_.has_vocabulary) return fail("two vocabularies");
      table_ = Table::vocabulary;
      return file_.has_vocabulary = true;
    }
    return open(json::object());
  }
  bool end_object() override { return close(); }

  bool start_array(std::size_t) override {
    if (table_ == Table::merges && pair_.empty() && !in_pair_) return in_pair_ = true;
    if (table_ != Table::none) return fail("a table holds an array");
    if (take_tables_ && at_model("merges")) {
      if (file_.has_merges) return fail("two lists of merges");
      table_ = Table::merges;
      return file_.has_merges = true;
    }
    return open(json::array());
  }
  bool end_array() override {
    if (!in_pair_) return close();
    if (pair_.size() != 2) return fail("a merge that is not a pair");
    file_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
    pair_.clear();
    in_pair_ = false;
    return true;
  }

  bool key(string_t& v) override {
    key_ = std::move(v);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail("not JSON at byte " + std::to_string(position));
  }

 private:
  enum class Table { none, vocabulary, merges };

  bool fail(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }

  /// The value about to be read is the root's `model` member's member `name`.
  bool at_model(std::string_view name) const {
    return open_.size() == 2 && in_model_ && key_ == name;
  }

  /// "a b" is the pair of what stands before and after the only space.
  bool merge_text(std::string& text) {
    if (in_pair_) {
      pair_.push_back(std::move(text));
      return true;
    }
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return fail("a merge that is not two words");
    }
    file_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    return true;
  }

  /// Puts a finished value where the reader stands, and returns its place.
  json* place(json v) {
    if (open_.empty()) return &(file_.rest = std::move(v));
    json& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ptr<json::array_t*>()->emplace_back(std::move(v));
    // Of two members with one name the last counts, as Python reads them.
    return &parent.get_ptr<json::object_t*>()
                ->insert_or_assign(std::move(key_), std::move(v))
                .first->second;
  }

  bool value(json v) {
    if (table_ != Table::none) return fail("a table holds a value of the wrong type");
    place(std::move(v));
    return true;
  }

  bool open(json container) {
    if (open_.size() == kMaxDepth) return fail("nested too deeply");
    const bool model = open_.size() == 1 && key_ == "model";
    if (open_.size() == 1) in_model_ = model;
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    if (table_ != Table::none) {
      table_ = Table::none;
    } else {
      open_.pop_back();
    }
    return true;
  }

  TokenizerFile& file_;
  bool take_tables_;
  std::string problem_;
  std::string key_;
  // Containers being read, outermost first. Each parent waits while its child is open, so its
  // array cannot grow and these addresses stay true.
  std::vector<json*> open_;
  bool in_model_ = false;
  Table table_ = Table::none;
  bool in_pair_ = false;
  std::vector<std::string> pair_;
};

Result<TokenizerFile> read(std::string_view text, bool take_tables, std::string_view file_name) {
  TokenizerFile file;
  Reader reader(file, take_tables);
  if (!json::sax_parse(text, &reader)) {
    return Error{Errc::tokenizer_malformed, std::string(file_name) + ": " + reader.problem()};
  }
  return file;
}

}  // namespace

Result<TokenizerFile> read_tokenizer_json(std::string_view json) {
  return read(json, true, "tokenizer.json");
}

Result<nlohmann::json> read_json(std::string_view json, std::string_view file_name) {
  Result<TokenizerFile> file = read(json, false, file_name);
  if (!file) return file.error();
  return std::move(file->rest);
}

}  // namespace farmesh::text
