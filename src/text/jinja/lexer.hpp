// A template's source to tokens, with the white space as Hugging Face's environment leaves it:
// trim_blocks and lstrip_blocks on, one newline at the very end dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace farmesh::text::jinja {

struct Token {
  enum class Kind {
    text,         // outside any tag
    open_output,  // {{
    close_output,
    open_block,  // {%
    close_block,
    name,
    string,
    integer,
    real,
    op,
    end
  };

  Kind kind = Kind::end;
  std::string text;  // a string's value, unescaped; a number as written
  int line = 1;

  bool is(Kind wanted, std::string_view wanted_text) const noexcept {
    return kind == wanted && text == wanted_text;
  }
};

/// `source` is valid UTF-8. The last token is `end`. Throws Failure.
std::vector<Token> tokenize(std::string_view source);

}  // namespace farmesh::text::jinja
