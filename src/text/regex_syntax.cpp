#include "text/regex_syntax.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <vector>

#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

// Contents of bracketed classes. White_Space is spelled out because PCRE2's own \s also takes
// U+180E; Oniguruma's \w takes marks and connectors, PCRE2 10.42's does not.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF})"
    R"(\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside a bracketed class, and only there, Oniguruma counts Latin-1's superscripts and fractions.
constexpr std::string_view kWordAlone =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHexDigit = "0-9A-Fa-f";

constexpr std::size_t kMaxGroupDepth = 64;

constexpr std::array<std::string_view, 37> kCategories = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
    "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

// Names that mean the same in both; every other name must be a script.
constexpr std::array<std::string_view, 9> kSharedProperties = {
    "Alphabetic", "Any",       "Emoji",      "Extended_Pictographic", "Ideographic", "Lowercase",
    "Math",       "Uppercase", "White_Space"};

constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kLongNames = {{
    {"Letter", "L"},
    {"Mark", "M"},
    {"Number", "N"},
    {"Punctuation", "P"},
    {"Symbol", "S"},
    {"Separator", "Z"},
    {"Digit", "Nd"},
    {"Decimal_Number", "Nd"},
}};

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    while (!error_ && at_ < in_.size()) step();
    if (!error_ && !groups_.empty()) refuse("an open group");
    if (error_) return Error{Errc::model_unsupported, "pattern: " + *error_};
    return std::move(out_);
  }

 private:
  static constexpr std::size_t kNone = std::string::npos;

  bool ahead(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void refuse(std::string what) {
    if (!error_) error_ = std::move(what);
  }
  void begin_atom() {
    atom_ = out_.size();
    quantified_ = false;
  }

  void step() {
    switch (in_[at_]) {
      case '\\': begin_atom(); return escape(false);
      case '[': begin_atom(); return bracket();
      case '(': return open_group();
      case ')': return close_group();
      case '*':
      case '+':
      case '?': return quantifier(std::string(1, in_[at_]), 1, true);
      case '{': return braces();
      case '|':
      case '^':
      case '$':
        out_ += in_[at_++];
        atom_ = kNone;
        return;
      case ']':
      case '}':
        begin_atom();
        out_ += '\\';
        out_ += in_[at_++];
        return;
      default: begin_atom(); return copy_char();
    }
  }

  void copy_char() {
    std::size_t size = 0;
    next_valid_char(in_.substr(at_), size);
    out_ += in_.substr(at_, size);
    at_ += size;
  }

  void open_group() {
    static constexpr std::array<std::string_view, 6> kPrefixes = {"(?:",  "(?=",  "(?!",
                                                                  "(?<=", "(?<!", "(?>"};
    if (groups_.size() == kMaxGroupDepth) return refuse("groups nested too deeply");
    if (ahead("(*")) return refuse("a verb (*…)");
    groups_.push_back(out_.size());
    atom_ = kNone;
    if (!ahead("(?")) {
      out_ += "(?:";  // nothing here ever reads a capture
      ++at_;
      return;
    }
    for (const std::string_view prefix : kPrefixes) {
      if (!ahead(prefix)) continue;
      out_ += prefix;
      at_ += prefix.size();
      return;
    }
    options();
  }

  /// (?i:…) anywhere, (?i) at the very front. Ruby's m is what others call s.
  void options() {
    const std::size_t start = at_;
    at_ += 2;
    std::string letters;
    while (at_ < in_.size() && (in_[at_] == 'i' || in_[at_] == 'm' || in_[at_] == '-')) {
      letters += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
    if (ahead(":")) {
      out_ += "(?" + letters + ":";
    } else if (ahead(")") && start == 0) {
      out_ += "(?" + letters + ")";
      groups_.pop_back();
    } else {
      return refuse("the group " + std::string(in_.substr(start, 4)));
    }
    ++at_;
  }

  void close_group() {
    if (groups_.empty()) return refuse("an unmatched )");
    atom_ = groups_.back();
    quantified_ = false;
    groups_.pop_back();
    out_ += in_[at_++];
  }

  /// `suffix`: whether a following ? or + changes the quantifier. After braces Ruby has only ?.
  void quantifier(const std::string& text, std::size_t length, bool possessive) {
    if (atom_ == kNone) return refuse("a quantifier with nothing before it");
    if (quantified_) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
    out_ += text;
    at_ += length;
    quantified_ = true;
    if (ahead("?") || (possessive && ahead("+"))) out_ += in_[at_++];
  }

  /// {n}, {n,}, {n,m}, {,m}; any other brace is itself.
  void braces() {
    const std::size_t close = in_.find('}', at_);
    const std::string_view body =
        close == kNone ? std::string_view{} : in_.substr(at_ + 1, close - at_ - 1);
    const std::size_t comma = body.find(',');
    const std::string_view low = body.substr(0, comma);
    const std::string_view high =
        comma == std::string_view::npos ? std::string_view{} : body.substr(comma + 1);
    const auto digits = [](std::string_view text) {
      return text.size() <= 4 && std::all_of(text.begin(), text.end(), [](char c) {
               return std::isdigit(static_cast<unsigned char>(c));
             });
    };
    if (!digits(low) || !digits(high) || (low.empty() && high.empty())) {
      begin_atom();
      out_ += "\\{";
      ++at_;
      return;
    }
    std::string text = "{" + (low.empty() ? "0" : std::string(low));
    if (comma != std::string_view::npos) text += "," + std::string(high);
    // In Ruby "{n}?" is "n times, or not at all", not a lazy "n times".
    if (comma == std::string_view::npos && in_.substr(close + 1).starts_with("?")) {
      return refuse("the quantifier {n}?");
    }
    quantifier(text + "}", body.size() + 2, false);
  }

  void bracket() {
    out_ += in_[at_++];
    if (ahead("^")) out_ += in_[at_++];
    bool first = true;
    while (!error_) {
      if (at_ == in_.size()) return refuse("an open class");
      const char c = in_[at_];
      if (c == ']' && !first) break;
      if (c == '[') return refuse("a class inside a class");
      if (ahead("&&")) return refuse("the class operator &&");
      first = false;
      if (c == '\\') {
        escape(true);
      } else if (c == ']') {
        out_ += "\\]";
        ++at_;
      } else {
        copy_char();
      }
    }
    out_ += in_[at_++];
  }

  void put_class(std::string_view content, bool in_class, bool negated = false) {
    if (in_class) {
      out_ += content;
    } else {
      out_ += negated ? "[^" : "[";
      out_ += content;
      out_ += ']';
    }
  }

  void escape(bool in_class) {
    const std::size_t start = at_;
    if (++at_ == in_.size()) return refuse("a trailing backslash");
    const char c = in_[at_];
    if (static_cast<unsigned char>(c) >= 0x80) return copy_char();
    ++at_;
    if (std::ispunct(static_cast<unsigned char>(c)) || c == ' ') {
      out_ += '\\';
      out_ += c;
      return;
    }
    switch (c) {
      case 's': return put_class(kSpace, in_class);
      case 'S': return put_class(kNotSpace, in_class);
      case 'd': return put_class("\\p{Nd}", in_class);
      case 'D': return put_class("\\P{Nd}", in_class);
      case 'w': return put_class(in_class ? kWord : kWordAlone, in_class);
      case 'h': return put_class(kHexDigit, in_class);
      case 'W':
        if (!in_class) return put_class(kWordAlone, false, true);
        break;
      case 'H':
        if (!in_class) return put_class(kHexDigit, false, true);
        break;
      case 'v': out_ += "\\x{B}"; return;
      case 'p':
      case 'P': return property(c == 'P', in_class);
      case 'x': return hex_escape();
      case 'u':
        if (put_hex(at_, 4)) return;
        break;
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e': out_ += {'\\', c}; return;
      case 'A':
      case 'Z':
      case 'z':
        if (in_class) break;
        out_ += {'\\', c};
        atom_ = kNone;
        return;
      case 'b':
      case 'B':
        if (!in_class) return word_boundary(c == 'b');
        if (c == 'B') break;
        out_ += "\\x{8}";
        return;
      default: break;
    }
    refuse("the escape " + std::string(in_.substr(start, 2)));
  }

  /// Appends \x{…} for `count` hexadecimal digits at `from`, and moves past them.
  bool put_hex(std::size_t from, std::size_t count) {
    const std::string_view digits = in_.substr(from, count);
    if (count == 0 || count > 6 || digits.size() != count ||
        !std::all_of(digits.begin(), digits.end(),
                     [](char c) { return std::isxdigit(static_cast<unsigned char>(c)); })) {
      return false;
    }
    out_ += "\\x{" + std::string(digits) + "}";
    at_ = from + count;
    return true;
  }

  void hex_escape() {
    if (ahead("{")) {
      const std::size_t close = in_.find('}', at_);
      if (close == kNone || !put_hex(at_ + 1, close - at_ - 1)) return refuse("a bad \\x{…}");
      ++at_;
      return;
    }
    // Above 7F, Ruby's \xHH is one byte of a character.
    if (at_ < in_.size() && in_[at_] >= '8') return refuse("\\x of a byte that is not ASCII");
    if (!put_hex(at_, 2)) refuse("a bad \\x");
  }

  void property(bool negated, bool in_class) {
    std::string_view name;
    if (ahead("{")) {
      const std::size_t close = in_.find('}', at_);
      if (close == kNone) return refuse("an open \\p{");
      name = in_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
    } else {
      return refuse("\\p without braces");
    }
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (name == "Space") {
      if (in_class) return put_class(negated ? kNotSpace : kSpace, true);
      return put_class(kSpace, false, negated);
    }
    for (const auto& [long_name, short_name] : kLongNames) {
      if (name == long_name) name = short_name;
    }
    const bool is_name = std::all_of(name.begin(), name.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    });
    if (name.empty() || !is_name) return refuse("a property name");
    const bool shared =
        std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end() ||
        std::find(kSharedProperties.begin(), kSharedProperties.end(), name) !=
            kSharedProperties.end();
    out_ += negated ? "\\P{" : "\\p{";
    // PCRE2 takes a bare script name as its extensions, Oniguruma as the script itself.
    if (!shared) out_ += "sc:";
    out_ += name;
    out_ += '}';
  }

  void word_boundary(bool at_boundary) {
    const std::string word = "[" + std::string(kWordAlone) + "]";
    const std::string before = "(?<=" + word + ")";
    const std::string not_before = "(?<!" + word + ")";
    const std::string after = "(?=" + word + ")";
    const std::string not_after = "(?!" + word + ")";
    out_ += at_boundary ? "(?:" + before + not_after + "|" + not_before + after + ")"
                        : "(?:" + before + after + "|" + not_before + not_after + ")";
    atom_ = kNone;
  }

  std::string_view in_;
  std::string out_;
  std::optional<std::string> error_;
  std::size_t at_ = 0;
  std::size_t atom_ = kNone;  // where in out_ the atom begins that a quantifier would repeat
  bool quantified_ = false;   // that atom carries a quantifier already
  std::vector<std::size_t> groups_;
};

}  // namespace

Result<std::string> to_pcre2(std::string_view pattern) { return Rewriter(pattern).run(); }

}  // namespace farmesh::text
