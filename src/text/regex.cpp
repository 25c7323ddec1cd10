#include "text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <string>

#include <pcre2.h>

#include "text/regex_syntax.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

constexpr std::size_t kMaxPatternBytes = 64u << 10;
constexpr std::uint32_t kMatchLimit = 20'000'000;  // steps of one match
constexpr std::uint32_t kHeapLimitKib = 64u << 10;

struct Free {
  void operator()(pcre2_code* p) const noexcept { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const noexcept { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const noexcept { pcre2_match_context_free(p); }
  void operator()(pcre2_compile_context* p) const noexcept { pcre2_compile_context_free(p); }
};

std::string message_of(int code) {
  PCRE2_UCHAR text[128];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Compiled {
  std::unique_ptr<pcre2_code, Free> code;
  std::unique_ptr<pcre2_match_context, Free> limits;  // only read by matching

  /// As pcre2_match(). A pattern that outgrows the JIT's stack is run by the interpreter.
  int match(std::string_view text, std::size_t from, pcre2_match_data* data) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int found =
        pcre2_match(code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, data, limits.get());
    if (found != PCRE2_ERROR_JIT_STACKLIMIT) return found;
    return pcre2_match(code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data, limits.get());
  }
};

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) return Error{Errc::model_unsupported, "pattern: too long"};
  const Result<std::string> rewritten = to_pcre2(pattern);
  if (!rewritten) return rewritten.error();
  // Ruby's ^ and $ always work on lines.
  constexpr std::uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C;
  const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  std::size_t offset = 0;
  auto compiled = std::make_shared<Compiled>();
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten->data()),
                                     rewritten->size(), kOptions, &code, &offset, context.get()));
  if (!compiled->code) return Error{Errc::model_unsupported, "pattern: " + message_of(code)};
  compiled->limits.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(compiled->limits.get(), kMatchLimit);
  pcre2_set_heap_limit(compiled->limits.get(), kHeapLimitKib);
  // Without a JIT for this processor the interpreter serves, with the same results.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(compiled));
}

Result<void> Regex::cover(std::string_view text, std::vector<Stretch>& stretches) const {
  const std::unique_ptr<pcre2_match_data, Free> data(
      pcre2_match_data_create_from_pattern(compiled_->code.get(), nullptr));
  const auto put = [&](std::size_t begin, std::size_t end, bool matched) {
    stretches.push_back(
        {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), matched});
  };
  std::size_t covered = 0;
  std::size_t from = 0;
  bool matched_before = false;
  while (from <= text.size()) {
    const int found = compiled_->match(text, from, data.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) return {Errc::invalid_argument, "tokenizer pattern: " + message_of(found)};
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data.get());
    const std::size_t begin = span[0];
    const std::size_t end = span[1];
    if (begin == end && matched_before && begin == covered) {
      // An empty match right after a match would be found for ever: step over one character.
      if (from >= text.size()) break;
      std::size_t size = 0;
      next_valid_char(text.substr(from), size);
      from += size;
      continue;
    }
    if (begin > covered) put(covered, begin, false);
    put(begin, end, true);
    covered = from = end;
    matched_before = true;
  }
  if (covered < text.size()) put(covered, text.size(), false);
  return {};
}

}  // namespace farmesh::text
