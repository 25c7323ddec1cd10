// A template's source to its tree, or a refusal that names the construct and its line.
#pragma once

#include <string_view>

#include "text/jinja/ast.hpp"

namespace farmesh::text::jinja {

/// `source` is valid UTF-8. Throws Failure.
Block parse_template(std::string_view source);

}  // namespace farmesh::text::jinja
