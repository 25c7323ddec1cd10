// Walks a template's tree over one conversation. Everything is bounded: work, output, recursion.
#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.hpp"

namespace farmesh::text::jinja {

/// The names that a template finds at its start.
using Variables = std::vector<std::pair<std::string, Value>>;

/// `now` is what strftime_now() tells. Throws Failure, also when the text would exceed
/// `max_bytes`.
std::string render(const Block& block, Variables variables, std::time_t now, std::size_t max_bytes);

}  // namespace farmesh::text::jinja
