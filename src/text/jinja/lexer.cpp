#include "text/jinja/lexer.hpp"

#include <algorithm>
#include <array>

#include "text/jinja/failure.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

using Kind = Token::Kind;

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_name_start(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_blank(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Every line end as \n, and one at the end of the source dropped.
std::string with_plain_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (source.substr(i + 1).starts_with('\n')) ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_lines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      std::string_view before = rest().substr(0, tag - at_);
      if (tag == source_.size()) {
        put_text(before);
        break;
      }
      const char type = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      put_text(trimmed_before(before, type != '{', sign));
      at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      if (type == '#') {
        comment();
      } else if (type == '%' && starts_raw()) {
        raw();
      } else {
        inside(type == '{');
      }
    }
    tokens_.push_back({Kind::end, {}, line_});
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool ahead(std::string_view text) const { return rest().starts_with(text); }

  /// Where the next {{, {% or {# begins, or the end.
  std::size_t next_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i) {
      const char next = source_[i + 1];
      if (source_[i] == '{' && (next == '{' || next == '%' || next == '#')) return i;
    }
    return source_.size();
  }

  /// Text before a tag, as the tag's sign and lstrip_blocks leave it.
  std::string_view trimmed_before(std::string_view text, bool is_block, char sign) {
    if (sign == '-') {
      pending_lines_ += std::count(text.end() - static_cast<std::ptrdiff_t>(trailing_space(text)),
                                   text.end(), '\n');
      return text.substr(0, text.size() - trailing_space(text));
    }
    if (sign == '+' || !is_block) return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t line_begin = newline == text.npos ? 0 : newline + 1;
    if (newline == text.npos && !line_starting_) return text;
    const std::string_view line = text.substr(line_begin);
    return leading_space(line) == line.size() ? text.substr(0, line_begin) : text;
  }

  void put_text(std::string_view text) {
    if (!text.empty()) tokens_.push_back({Kind::text, std::string(text), line_});
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n') + pending_lines_);
    pending_lines_ = 0;
  }

  void advance(std::size_t count) {
    const std::string_view passed = rest().substr(0, count);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    at_ += passed.size();
  }

  /// Past a closing tag of `length` bytes whose first byte may be a sign. `trims`: the newline
  /// right after it goes too.
  void close(std::size_t length, char sign, bool trims) {
    advance(length);
    if (sign == '-') {
      advance(leading_space(rest()));
    } else if (trims && sign != '+' && ahead("\n")) {
      advance(1);
    }
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  void comment() {
    const std::size_t end = rest().find("#}");
    if (end == std::string_view::npos) fail("a comment that never ends", line_);
    const char sign = end > 0 ? rest()[end - 1] : '\0';
    close(end + 2, sign, true);
  }

  /// At "raw %}", after the opening of a block.
  bool starts_raw() {
    std::string_view text = rest();
    const auto skip_blank = [&] { text.remove_prefix(leading_space(text)); };
    skip_blank();
    if (!text.starts_with("raw")) return false;
    text.remove_prefix(3);
    skip_blank();
    const bool strips = text.starts_with("-%}");
    if (!strips && !text.starts_with("%}")) return false;
    const std::size_t length = rest().size() - text.size() + (strips ? 3 : 2);
    close(length, strips ? '-' : '\0', false);
    return true;
  }

  void raw() {
    for (std::size_t i = rest().find("{%"); i != std::string_view::npos;
         i = rest().find("{%", i + 2)) {
      std::string_view tag = rest().substr(i + 2);
      const char sign = tag.starts_with('-') || tag.starts_with('+') ? tag[0] : '\0';
      if (sign != '\0') tag.remove_prefix(1);
      tag.remove_prefix(leading_space(tag));
      if (!tag.starts_with("endraw")) continue;
      tag.remove_prefix(6);
      tag.remove_prefix(leading_space(tag));
      const char close_sign = tag.starts_with('-') || tag.starts_with('+') ? tag[0] : '\0';
      if (close_sign != '\0') tag.remove_prefix(1);
      if (!tag.starts_with("%}")) continue;
      const std::size_t tag_end = rest().size() - tag.size() + 2;
      const std::string_view body = rest().substr(0, i);
      put_text(trimmed_before(body, true, sign));
      at_ += i;
      return close(tag_end - i, close_sign, true);
    }
    fail("a raw block that never ends", line_);
  }

  /// The tokens of one {{ … }} or {% … %}.
  void inside(bool output) {
    const std::string_view closing = output ? "}}" : "%}";
    const int opened = line_;
    tokens_.push_back({output ? Kind::open_output : Kind::open_block, {}, line_});
    brackets_.clear();
    while (true) {
      while (at_ < source_.size() && is_blank(source_[at_])) advance(1);
      if (at_ == source_.size()) fail("a tag that never ends", opened);
      const char c = source_[at_];
      const bool signed_end =
          (c == '-' || (c == '+' && !output)) && rest().substr(1).starts_with(closing);
      if (brackets_.empty() && (signed_end || ahead(closing))) {
        tokens_.push_back({output ? Kind::close_output : Kind::close_block, {}, line_});
        return close(closing.size() + (signed_end ? 1 : 0), signed_end ? c : '\0', !output);
      }
      if (is_name_start(c)) {
        name();
      } else if (is_digit(c)) {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        op();
      }
    }
  }

  void name() {
    std::size_t end = at_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
    tokens_.push_back({Kind::name, source_.substr(at_, end - at_), line_});
    at_ = end;
  }

  void number() {
    const std::size_t begin = at_;
    const auto digits = [&] {
      while (at_ < source_.size() && is_digit(source_[at_])) ++at_;
    };
    digits();
    bool real = false;
    // In "a.0.5" the 0 is an index.
    const bool after_dot = !tokens_.empty() && tokens_.back().is(Kind::op, ".");
    if (!after_dot && ahead(".") && at_ + 1 < source_.size() && is_digit(source_[at_ + 1])) {
      real = true;
      ++at_;
      digits();
    }
    if (!after_dot && (ahead("e") || ahead("E"))) {
      real = true;
      ++at_;
      if (ahead("+") || ahead("-")) ++at_;
      digits();
    }
    const std::string text = source_.substr(begin, at_ - begin);
    const bool odd = at_ < source_.size() && (is_name_start(source_[at_]) || source_[at_] == '_');
    if (odd || !is_digit(text.back()) || (!real && text.size() > 1 && text[0] == '0')) {
      fail("the number " + text, line_);
    }
    tokens_.push_back({real ? Kind::real : Kind::integer, text, line_});
  }

  void string(char quote) {
    const int opened = line_;
    std::string value;
    advance(1);
    while (true) {
      if (at_ == source_.size()) fail("a string that never ends", opened);
      const char c = source_[at_];
      if (c == quote) break;
      if (c == '\\') {
        escape(value);
      } else {
        value += c;
        advance(1);
      }
    }
    advance(1);
    tokens_.push_back({Kind::string, std::move(value), opened});
  }

  /// Python's escapes; an unknown one stays as it is, backslash and all.
  void escape(std::string& value) {
    if (at_ + 1 == source_.size()) fail("a string that never ends", line_);
    const char c = source_[at_ + 1];
    static constexpr std::string_view kFrom = "\\'\"abfnrtv";
    static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    const std::size_t known = kFrom.find(c);
    if (known != std::string_view::npos) {
      value += kTo[known];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return hex_escape(value, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (is_digit(c) || c == 'N') {
      fail("the string escape \\" + std::string(1, c), line_);
    } else if (c != '\n') {  // a line may be continued
      value += '\\';
      return advance(1);
    }
    advance(2);
  }

  void hex_escape(std::string& value, std::size_t count) {
    const std::string_view digits = rest().substr(2, count);
    char32_t codepoint = 0;
    for (const char c : digits) {
      const char lower = static_cast<char>(c | 0x20);
      const bool letter = lower >= 'a' && lower <= 'f';
      if (!is_digit(c) && !letter) fail("a bad string escape", line_);
      codepoint = codepoint << 4 | static_cast<char32_t>(letter ? lower - 'a' + 10 : c - '0');
    }
    if (digits.size() != count || codepoint > 0x10FFFF ||
        (codepoint >= 0xD800 && codepoint <= 0xDFFF)) {
      fail("a bad string escape", line_);
    }
    append_utf8(value, codepoint);
    advance(2 + count);
  }

  void op() {
    static constexpr std::array<std::string_view, 6> kLong = {"**", "//", "==", "!=", ">=", "<="};
    static constexpr std::string_view kShort = "+-*/%~<>=.:|,()[]{}";
    std::string text;
    for (const std::string_view candidate : kLong) {
      if (ahead(candidate)) text = candidate;
    }
    const char c = source_[at_];
    if (text.empty() && kShort.find(c) == std::string_view::npos) {
      fail("the character " + std::string(rest().substr(0, next_char(rest()).size)), line_);
    }
    if (text.empty()) text = std::string(1, c);
    if (c == '(' || c == '[' || c == '{') brackets_ += c;
    if (c == ')' || c == ']' || c == '}') {
      const char partner = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (brackets_.empty() || brackets_.back() != partner) {
        fail("an unmatched " + std::string(1, c), line_);
      }
      brackets_.pop_back();
    }
    tokens_.push_back({Kind::op, text, line_});
    at_ += text.size();
  }

  const std::string source_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::ptrdiff_t pending_lines_ = 0;  // newlines that a "-" took from the text before a tag
  bool line_starting_ = true;         // what was closed last ended its line
  std::string brackets_;              // open ones inside the tag
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace farmesh::text::jinja
