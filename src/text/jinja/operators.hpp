// What +, -, [], … do to values, as Python does it.
#pragma once

#include <optional>

#include "text/jinja/ast.hpp"

namespace farmesh::text::jinja {

/// Any operator but `and` and `or`, which do not evaluate both sides. Fails for types that do
/// not go together, and for integers beyond 64 bits.
Value apply_binary(Meter& meter, Binary::Op op, const Value& left, const Value& right);
Value apply_unary(Unary::Op op, const Value& operand);
bool apply_comparison(Meter& meter, Compare::Op op, const Value& left, const Value& right);

/// object[index]; undefined when there is no such item.
Value item_of(Meter& meter, const Value& object, const Value& index);
/// object[start:stop:step] of a string or list.
Value slice_of(Meter& meter, const Value& object, std::optional<std::int64_t> start,
               std::optional<std::int64_t> stop, std::optional<std::int64_t> step);

}  // namespace farmesh::text::jinja
