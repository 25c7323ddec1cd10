#include "text/pre_tokenizer.hpp"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "text/byte_alphabet.hpp"
#include "text/json_fields.hpp"
#include "text/normalizer.hpp"
#include "text/regex.hpp"
#include "text/split_behavior.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Error grows_too_long() {
  return {Errc::invalid_argument, "the text grows too long when cut into words"};
}

/// Gives `cover(view, stretches)` every word in turn and replaces it by what comes of it.
template <class Cover>
Result<void> cut_words(Words& words, SplitBehavior behavior, Cover cover) {
  std::vector<Words::Word> cut;
  cut.reserve(words.words.size());
  std::vector<Stretch> stretches;
  for (const Words::Word word : words.words) {
    stretches.clear();
    const Result<void> covered = cover(words.view(word), stretches);
    if (!covered) return covered;
    append_words(stretches, behavior, word.begin, cut);
  }
  words.words = std::move(cut);
  return {};
}

/// Rewrites every word by `rewrite(view, starts_input) -> std::string`.
template <class Rewrite>
Result<void> rewrite_words(Words& words, Rewrite rewrite) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 8);
  for (Words::Word& word : words.words) {
    const bool first = words.starts_input && word.begin == 0;
    const std::string rewritten = rewrite(words.view(word), first);
    if (rewritten.size() > kMaxIntermediateBytes - text.size()) return grows_too_long();
    word.begin = static_cast<std::uint32_t>(text.size());
    text += rewritten;
    word.end = static_cast<std::uint32_t>(text.size());
  }
  words.text = std::move(text);
  return {};
}

/// Cuts at every character that `matches` accepts.
template <class Matches>
Result<void> cut_at_chars(Words& words, SplitBehavior behavior, Matches matches) {
  return cut_words(words, behavior, [&](std::string_view view, std::vector<Stretch>& stretches) {
    std::size_t unmatched = 0;
    for (std::size_t at = 0, size = 0; at < view.size(); at += size) {
      if (!matches(next_valid_char(view.substr(at), size))) continue;
      const auto here = static_cast<std::uint32_t>(at);
      if (unmatched < at) stretches.push_back({static_cast<std::uint32_t>(unmatched), here, false});
      stretches.push_back({here, static_cast<std::uint32_t>(at + size), true});
      unmatched = at + size;
    }
    const auto end = static_cast<std::uint32_t>(view.size());
    if (unmatched < end) stretches.push_back({static_cast<std::uint32_t>(unmatched), end, false});
    return Result<void>();
  });
}

class Split final : public PreTokenizer {
 public:
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  Result<void> apply(Words& words) const override {
    return cut_words(words, behavior_, [&](std::string_view view, std::vector<Stretch>& stretches) {
      Result<void> covered = pattern_.cover(view, stretches);
      if (invert_) {
        for (Stretch& s : stretches) s.matched = !s.matched;
      }
      return covered;
    });
  }

 private:
  Regex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(std::optional<Regex> pattern, bool add_prefix_space) : prefix_(add_prefix_space) {
    if (pattern) split_.emplace(std::move(*pattern), SplitBehavior::isolated, false);
  }

  Result<void> apply(Words& words) const override {
    if (prefix_) {
      const Result<void> prefixed = rewrite_words(words, [](std::string_view view, bool) {
        return view.starts_with(' ') ? std::string(view) : " " + std::string(view);
      });
      if (!prefixed) return prefixed;
    }
    if (split_) {
      const Result<void> cut = split_->apply(words);
      if (!cut) return cut;
    }
    return rewrite_words(words, [](std::string_view view, bool) { return to_byte_alphabet(view); });
  }

 private:
  std::optional<Split> split_;
  bool prefix_;
};

enum class PrependScheme { always, first, never };

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {
    std::size_t size = 0;
    replacement_char_ = next_valid_char(replacement_, size);
  }

  Result<void> apply(Words& words) const override {
    const Result<void> replaced =
        rewrite_words(words, [&](std::string_view view, bool first) { return mark(view, first); });
    if (!replaced || !split_) return replaced;
    return cut_at_chars(words, SplitBehavior::merged_with_next,
                        [&](char32_t c) { return c == replacement_char_; });
  }

 private:
  std::string mark(std::string_view view, bool first) const {
    std::string out;
    const bool marked = view.starts_with(' ') || view.starts_with(replacement_);
    const bool wanted =
        scheme_ == PrependScheme::always || (scheme_ == PrependScheme::first && first);
    if (wanted && !marked) out += replacement_;
    for (const char c : view) {
      if (c == ' ') {
        out += replacement_;
      } else {
        out += c;
      }
    }
    return out;
  }

  std::string replacement_;
  char32_t replacement_char_;
  PrependScheme scheme_;
  bool split_;
};

/// Digits, Punctuation, WhitespaceSplit: a property of characters decides.
class CharSplit final : public PreTokenizer {
 public:
  CharSplit(bool (*matches)(char32_t) noexcept, SplitBehavior behavior)
      : matches_(matches), behavior_(behavior) {}
  Result<void> apply(Words& words) const override {
    return cut_at_chars(words, behavior_, matches_);
  }

 private:
  bool (*matches_)(char32_t) noexcept;
  SplitBehavior behavior_;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  Result<void> apply(Words& words) const override {
    for (const auto& step : steps_) {
      Result<void> done = step->apply(words);
      if (!done) return done;
    }
    return {};
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> steps_;
};

using Parsed = Result<std::unique_ptr<const PreTokenizer>>;

template <class T, class... Args>
Parsed make(Args&&... args) {
  return std::unique_ptr<const PreTokenizer>(std::make_unique<T>(std::forward<Args>(args)...));
}

Error malformed(std::string what) {
  return {Errc::tokenizer_malformed, "pre_tokenizer " + std::move(what)};
}

/// A pattern that matches exactly this text.
std::string literal_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && is_punctuation(static_cast<char32_t>(c))) {
      out += '\\';
    }
    out += c;
  }
  return out;
}

Parsed parse_split(JsonFields& fields) {
  JsonFields pattern(fields.require("pattern"), "pre_tokenizer Split pattern");
  const std::optional<SplitBehavior> behavior = split_behavior(fields.text("behavior"));
  const bool invert = fields.boolean_or("invert", false);
  if (fields.bad()) return fields.error();
  if (!behavior) return malformed("Split has an unknown behavior");
  const bool is_regex = pattern.find("Regex") != nullptr;
  const std::string source =
      is_regex ? pattern.text("Regex") : literal_pattern(pattern.text("String"));
  if (pattern.bad()) return pattern.error();
  Result<Regex> regex = Regex::compile(source);
  if (!regex) return regex.error();
  return make<Split>(std::move(*regex), *behavior, invert);
}

Parsed parse_byte_level(JsonFields& fields) {
  const bool prefix = fields.boolean_or("add_prefix_space", true);
  const bool use_regex = fields.boolean_or("use_regex", true);
  if (fields.bad()) return fields.error();
  if (!use_regex) return make<ByteLevel>(std::nullopt, prefix);
  Result<Regex> regex = Regex::compile(kGpt2Pattern);
  if (!regex) return regex.error();
  return make<ByteLevel>(std::move(*regex), prefix);
}

Parsed parse_metaspace(JsonFields& fields) {
  std::string replacement = fields.text("replacement");
  std::string scheme = fields.text_or("prepend_scheme", "always");
  const bool split = fields.boolean_or("split", true);
  // The word of older files for what is now "never".
  if (!fields.boolean_or("add_prefix_space", true)) scheme = "never";
  if (fields.bad()) return fields.error();
  if (count_chars(replacement) != 1) return malformed("Metaspace's replacement is no character");
  if (scheme == "always") return make<Metaspace>(replacement, PrependScheme::always, split);
  if (scheme == "first") return make<Metaspace>(replacement, PrependScheme::first, split);
  if (scheme == "never") return make<Metaspace>(replacement, PrependScheme::never, split);
  return malformed("Metaspace has an unknown prepend_scheme");
}

Parsed parse(const json& component, std::size_t depth);

Parsed parse_sequence(const json& list, std::size_t depth) {
  if (!list.is_array() || list.size() > kMaxSteps || depth == kMaxNested) {
    return malformed("Sequence is not a short list");
  }
  std::vector<std::unique_ptr<const PreTokenizer>> steps;
  for (const json& item : list) {
    Parsed step = parse(item, depth + 1);
    if (!step) return step;
    if (*step) steps.push_back(std::move(*step));
  }
  return make<Sequence>(std::move(steps));
}

Parsed parse(const json& component, std::size_t depth) {
  if (component.is_null()) return std::unique_ptr<const PreTokenizer>();
  JsonFields fields(component, "pre_tokenizer");
  const std::string type = fields.type();
  if (fields.bad()) return fields.error();
  if (type == "Sequence") return parse_sequence(fields.require("pretokenizers"), depth);
  if (type == "Split") return parse_split(fields);
  if (type == "ByteLevel") return parse_byte_level(fields);
  if (type == "Metaspace") return parse_metaspace(fields);
  if (type == "WhitespaceSplit") return make<CharSplit>(is_space, SplitBehavior::removed);
  if (type == "Whitespace") {
    // Rust's \w, which unlike Oniguruma's takes joiners, and of numbers the decimal digits.
    Result<Regex> regex =
        Regex::compile(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+)"
                       R"(|[^\s\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+)");
    if (!regex) return regex.error();
    return make<Split>(std::move(*regex), SplitBehavior::removed, true);
  }
  if (type == "Digits") {
    const bool single = fields.boolean_or("individual_digits", false);
    if (fields.bad()) return fields.error();
    return make<CharSplit>(is_number, single ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Punctuation") {
    const auto behavior = split_behavior(fields.text_or("behavior", "Isolated"));
    if (fields.bad()) return fields.error();
    if (!behavior) return malformed("Punctuation has an unknown behavior");
    return make<CharSplit>(is_punctuation, *behavior);
  }
  return unsupported("pre_tokenizer", type);
}

}  // namespace

Result<std::unique_ptr<const PreTokenizer>> parse_pre_tokenizer(const json& component) {
  return parse(component, 0);
}

}  // namespace farmesh::text
