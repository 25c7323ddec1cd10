#include "text/normalizer.hpp"

#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "text/byte_alphabet.hpp"
#include "text/json_fields.hpp"
#include "text/regex.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

Error grows_too_long() {
  return {Errc::invalid_argument, "the text grows too long when normalised"};
}

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  Result<std::string> apply(std::string text) const override {
    return normalize(text, form_, kMaxIntermediateBytes);
  }

 private:
  NormalForm form_;
};

class Lowercase final : public Normalizer {
 public:
  Result<std::string> apply(std::string text) const override { return to_lower(text); }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Result<std::string> apply(std::string text) const override {
    if (right_) text.resize(text.size() - trailing_space(text));
    if (left_) text.erase(0, leading_space(text));
    return text;
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents final : public Normalizer {
 public:
  Result<std::string> apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::string_view left = text; !left.empty();) {
      std::size_t size = 0;
      if (!is_mark(next_valid_char(left, size))) out.append(left.substr(0, size));
      left.remove_prefix(size);
    }
    return out;
  }
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Result<std::string> apply(std::string text) const override {
    if (!text.empty()) text.insert(0, prefix_);
    return text;
  }

 private:
  std::string prefix_;
};

/// Every byte as its printable character.
class ByteLevel final : public Normalizer {
 public:
  Result<std::string> apply(std::string text) const override {
    if (text.size() > kMaxIntermediateBytes / 2) return grows_too_long();
    return to_byte_alphabet(text);
  }
};

class Replace final : public Normalizer {
 public:
  Replace(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}
  Replace(Regex pattern, std::string to) : pattern_(std::move(pattern)), to_(std::move(to)) {}

  Result<std::string> apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    return pattern_ ? by_pattern(text, out) : by_text(text, out);
  }

 private:
  Result<std::string> by_text(std::string_view text, std::string& out) const {
    std::size_t done = 0;
    for (std::size_t at; !from_.empty() && (at = text.find(from_, done)) != text.npos;) {
      out.append(text.substr(done, at - done)).append(to_);
      if (out.size() > kMaxIntermediateBytes) return grows_too_long();
      done = at + from_.size();
    }
    out.append(text.substr(done));
    return std::move(out);
  }

  Result<std::string> by_pattern(std::string_view text, std::string& out) const {
    std::vector<Stretch> stretches;
    const Result<void> covered = pattern_->cover(text, stretches);
    if (!covered) return covered.error();
    for (const Stretch& s : stretches) {
      out.append(s.matched ? std::string_view(to_) : text.substr(s.begin, s.end - s.begin));
      if (out.size() > kMaxIntermediateBytes) return grows_too_long();
    }
    return std::move(out);
  }

  std::optional<Regex> pattern_;
  std::string from_;
  std::string to_;
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const Normalizer>> steps)
      : steps_(std::move(steps)) {}
  Result<std::string> apply(std::string text) const override {
    for (const auto& step : steps_) {
      Result<std::string> next = step->apply(std::move(text));
      if (!next) return next;
      text = std::move(*next);
    }
    return text;
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> steps_;
};

using Parsed = Result<std::unique_ptr<const Normalizer>>;

template <class T, class... Args>
Parsed make(Args&&... args) {
  return std::unique_ptr<const Normalizer>(std::make_unique<T>(std::forward<Args>(args)...));
}

Parsed parse(const json& component, std::size_t depth);

Parsed parse_sequence(const json& list, std::size_t depth) {
  if (!list.is_array() || list.size() > kMaxSteps || depth == kMaxNested) {
    return Error{Errc::tokenizer_malformed, "normalizer Sequence is not a short list"};
  }
  std::vector<std::unique_ptr<const Normalizer>> steps;
  for (const json& item : list) {
    Parsed step = parse(item, depth + 1);
    if (!step) return step;
    if (*step) steps.push_back(std::move(*step));
  }
  return make<Sequence>(std::move(steps));
}

Parsed parse_replace(JsonFields& fields) {
  JsonFields pattern(fields.require("pattern"), "normalizer Replace pattern");
  std::string to = fields.text("content");
  if (fields.bad()) return fields.error();
  if (pattern.find("Regex") == nullptr) {
    std::string from = pattern.text("String");
    if (pattern.bad()) return pattern.error();
    return make<Replace>(std::move(from), std::move(to));
  }
  const std::string source = pattern.text("Regex");
  if (pattern.bad()) return pattern.error();
  Result<Regex> regex = Regex::compile(source);
  if (!regex) return regex.error();
  return make<Replace>(std::move(*regex), std::move(to));
}

Parsed parse(const json& component, std::size_t depth) {
  if (component.is_null()) return std::unique_ptr<const Normalizer>();
  JsonFields fields(component, "normalizer");
  const std::string type = fields.type();
  if (fields.bad()) return fields.error();
  if (type == "Sequence") return parse_sequence(fields.require("normalizers"), depth);
  if (type == "NFC") return make<UnicodeForm>(NormalForm::nfc);
  if (type == "NFD") return make<UnicodeForm>(NormalForm::nfd);
  if (type == "NFKC") return make<UnicodeForm>(NormalForm::nfkc);
  if (type == "NFKD") return make<UnicodeForm>(NormalForm::nfkd);
  if (type == "Lowercase") return make<Lowercase>();
  if (type == "StripAccents") return make<StripAccents>();
  if (type == "ByteLevel") return make<ByteLevel>();
  if (type == "Replace") return parse_replace(fields);
  if (type == "Strip") {
    const bool left = fields.boolean_or("strip_left", true);
    const bool right = fields.boolean_or("strip_right", true);
    if (fields.bad()) return fields.error();
    return make<Strip>(left, right);
  }
  if (type == "Prepend") {
    std::string prefix = fields.text("prepend");
    if (fields.bad()) return fields.error();
    return make<Prepend>(std::move(prefix));
  }
  return unsupported("normalizer", type);
}

}  // namespace

Result<std::unique_ptr<const Normalizer>> parse_normalizer(const json& component) {
  return parse(component, 0);
}

}  // namespace farmesh::text
