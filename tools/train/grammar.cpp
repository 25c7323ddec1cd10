#include "train/grammar.hpp"

#include <cctype>
#include <optional>
#include <set>

#include "base/assert.hpp"

namespace farmesh::train {
namespace {

constexpr int kMaxDepth = 64;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// Index of the bracket that closes the one at `open`, or npos.
std::size_t closing_brace(std::string_view phrase, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < phrase.size(); ++i) {
    if (phrase[i] == '{') ++depth;
    if (phrase[i] == '}' && --depth == 0) return i;
  }
  return std::string_view::npos;
}

/// The parts of "x|y|z", where a '|' inside inner braces does not count.
std::vector<std::string_view> alternatives(std::string_view body) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] == '{') ++depth;
    if (body[i] == '}') --depth;
    if (body[i] == '|' && depth == 0) {
      parts.push_back(body.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  parts.push_back(body.substr(begin));
  return parts;
}

std::string lowered_first(std::string_view name) {
  std::string out(name);
  out[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(out[0])));
  return out;
}

bool is_vowel(char c) { return std::string_view("aeiouAEIOU").find(c) != std::string_view::npos; }

/// The slots that a phrase uses; nothing when its brackets do not match.
std::optional<std::vector<std::string>> slots_of(std::string_view phrase) {
  std::vector<std::string> slots;
  int depth = 0;
  for (std::size_t i = 0; i < phrase.size(); ++i) {
    if (phrase[i] == '{') ++depth;
    if (phrase[i] == '}' && --depth < 0) return std::nullopt;
    if (phrase[i] != '<') continue;
    const std::size_t end = phrase.find('>', i);
    if (end == std::string_view::npos || end == i + 1) return std::nullopt;
    slots.push_back(lowered_first(phrase.substr(i + 1, end - i - 1)));
    i = end;
  }
  if (depth != 0) return std::nullopt;
  return slots;
}

/// Cuts a table row at '|' outside braces: a cell may hold a choice.
std::vector<std::string> cells_of(std::string_view line) {
  std::vector<std::string> cells;
  for (const std::string_view cell : alternatives(line)) cells.emplace_back(trimmed(cell));
  return cells;
}

}  // namespace

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(trimmed(text.substr(0, end)));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// Builds a Grammar line by line, then checks that every slot it uses exists.
class GrammarReader {
 public:
  explicit GrammarReader(const std::vector<std::string>& bound)
      : known_(bound.begin(), bound.end()) {}

  Result<Grammar> read(std::string_view text) {
    int number = 0;
    while (!text.empty()) {
      ++number;
      const std::size_t end = text.find('\n');
      const std::string_view line = trimmed(text.substr(0, end));
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (line.empty() || line.front() == '#') continue;
      if (!(line.front() == '[' ? open_section(line) : add_line(line))) {
        return Error{Errc::invalid_argument, "grammar line " + std::to_string(number) +
                                                 " is malformed: " + std::string(line)};
      }
    }
    for (const auto& [name, rule] : grammar_.rules_) {
      if (known_.contains(name) || rule.lines.empty()) {
        return Error{Errc::invalid_argument,
                     "the rule [" + name + "] is empty or shares its name with a bound slot"};
      }
    }
    for (const std::string& slot : used_) {
      if (!known_.contains(slot) && grammar_.rule(slot) == nullptr) {
        return Error{Errc::invalid_argument, "nothing defines the slot <" + slot + ">"};
      }
    }
    return std::move(grammar_);
  }

 private:
  bool open_section(std::string_view line) {
    if (line.back() != ']') return false;
    std::string_view head = line.substr(1, line.size() - 2);
    rule_ = nullptr;
    table_ = nullptr;
    if (!head.empty() && head.front() == '@') {
      const std::size_t colon = head.find(':');
      if (colon == std::string_view::npos) return false;
      columns_ = split(head.substr(colon + 1), '|');
      known_.insert(columns_.begin(), columns_.end());
      table_ = &grammar_.tables_[std::string(trimmed(head.substr(1, colon - 1)))];
      return true;
    }
    const bool once = !head.empty() && head.front() == '=';
    if (once) head.remove_prefix(1);
    if (head.empty()) return false;
    rule_ = &grammar_.rules_[std::string(head)];
    rule_->once = once;
    return true;
  }

  bool add_line(std::string_view line) {
    const auto slots = slots_of(line);
    if (!slots) return false;
    used_.insert(slots->begin(), slots->end());
    if (rule_ != nullptr) {
      rule_->lines.emplace_back(line);
      return true;
    }
    const std::vector<std::string> cells = cells_of(line);
    if (table_ == nullptr || cells.size() != columns_.size()) return false;
    Bindings row;
    for (std::size_t i = 0; i < cells.size(); ++i) row[columns_[i]] = cells[i];
    table_->push_back(std::move(row));
    return true;
  }

  Grammar grammar_;
  Grammar::Rule* rule_ = nullptr;
  std::vector<Bindings>* table_ = nullptr;
  std::vector<std::string> columns_;
  std::set<std::string> known_;
  std::set<std::string> used_;
};

Result<Grammar> Grammar::parse(std::string_view text, const std::vector<std::string>& bound) {
  return GrammarReader(bound).read(text);
}

const Grammar::Rule* Grammar::rule(std::string_view name) const {
  const auto found = rules_.find(name);
  return found == rules_.end() ? nullptr : &found->second;
}

const std::vector<Bindings>& Grammar::table(std::string_view name) const {
  static const std::vector<Bindings> kNone;
  const auto found = tables_.find(name);
  return found == tables_.end() ? kNone : found->second;
}

void Telling::bind(std::string_view slot, std::string value) {
  bindings_.insert_or_assign(std::string(slot), std::move(value));
}

void Telling::bind(const Bindings& row) {
  for (const auto& [slot, value] : row) bind(slot, value);
}

void Telling::draw(std::string_view table) {
  const std::vector<Bindings>& rows = grammar_.table(table);
  FARMESH_ASSERT(!rows.empty());
  bind(rows[random_.below(rows.size())]);
}

std::string Telling::expand(std::string_view phrase) {
  FARMESH_ASSERT(++depth_ <= kMaxDepth);
  std::string out;
  for (std::size_t i = 0; i < phrase.size(); ++i) {
    if (phrase[i] == '{') {
      const std::size_t end = closing_brace(phrase, i);
      const auto parts = alternatives(phrase.substr(i + 1, end - i - 1));
      out += expand(parts[random_.below(parts.size())]);
      i = end;
    } else if (phrase[i] == '<') {
      const std::size_t end = phrase.find('>', i);
      out += slot(phrase.substr(i + 1, end - i - 1));
      i = end;
    } else {
      out += phrase[i];
    }
  }
  --depth_;
  return out;
}

std::string Telling::slot(std::string_view name) {
  const bool capital = std::isupper(static_cast<unsigned char>(name[0])) != 0;
  const std::string key = lowered_first(name);
  std::string text;
  if (const auto bound = bindings_.find(key); bound != bindings_.end()) {
    text = expand(std::string(bound->second));
  } else {
    const Grammar::Rule* rule = grammar_.rule(key);
    FARMESH_ASSERT(rule != nullptr && !rule->lines.empty());
    text = expand(rule->lines[random_.below(rule->lines.size())]);
    if (rule->once) bind(key, text);
  }
  if (capital && !text.empty()) {
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  }
  return text;
}

std::string Telling::tell(std::string_view phrase) { return tidy(expand(phrase)); }

std::string tidy(std::string_view text) {
  std::string out;
  bool start_of_sentence = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    if (start_of_sentence && std::isalpha(static_cast<unsigned char>(c)) != 0) {
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) start_of_sentence = false;
    // After `."` a sentence begins, after `!"` and `?"` the speaker may be named: "Oh!" he said.
    const bool closing_quote = c == '"' && !out.empty() && out.back() == '.';
    if (c == '.' || c == '!' || c == '?' || closing_quote) start_of_sentence = true;
    if (c == '"' && !closing_quote && i + 1 < text.size() && text[i + 1] == ' ') {
      start_of_sentence = false;
    }
    const bool article = c == ' ' && (out == "A" || out.ends_with(" a") || out.ends_with(" A") ||
                                      out.ends_with("\"a") || out.ends_with("\"A"));
    if (article && i + 1 < text.size() && is_vowel(text[i + 1])) out += 'n';
    out += c;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace farmesh::train
