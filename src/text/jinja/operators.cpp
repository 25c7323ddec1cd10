#include "text/jinja/operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

using Op = Binary::Op;

constexpr std::string_view symbol(Op op) {
  switch (op) {
    case Op::add: return "+";
    case Op::subtract: return "-";
    case Op::multiply: return "*";
    case Op::divide: return "/";
    case Op::floor_divide: return "//";
    case Op::modulo: return "%";
    case Op::concat: return "~";
    case Op::logical_and: return "and";
    case Op::logical_or: return "or";
  }
  return "?";
}

[[noreturn]] void mismatch(Op op, const Value& left, const Value& right) {
  fail(std::string(type_name(left)) + " " + std::string(symbol(op)) + " " +
       std::string(type_name(right)));
}

/// An int, or a bool as Python counts it.
std::optional<std::int64_t> integer_of(const Value& value) {
  if (const bool* boolean = value.get<bool>()) return *boolean;
  const auto* integer = value.get<std::int64_t>();
  return integer == nullptr ? std::nullopt : std::optional(*integer);
}

std::optional<double> real_of(const Value& value) {
  if (const double* real = value.get<double>()) return *real;
  const std::optional<std::int64_t> integer = integer_of(value);
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

Value integer_arithmetic(Op op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Op::add: overflow = __builtin_add_overflow(a, b, &result); break;
    case Op::subtract: overflow = __builtin_sub_overflow(a, b, &result); break;
    case Op::multiply: overflow = __builtin_mul_overflow(a, b, &result); break;
    default: {
      if (b == 0) fail("a division by zero");
      if (b == -1) {  // the one quotient that can overflow
        overflow = op == Op::floor_divide && __builtin_sub_overflow(std::int64_t{0}, a, &result);
        break;
      }
      // Python rounds towards minus infinity, and a remainder has the divisor's sign.
      const bool adjust = a % b != 0 && (a % b < 0) != (b < 0);
      result = op == Op::floor_divide ? a / b - (adjust ? 1 : 0) : a % b + (adjust ? b : 0);
    }
  }
  if (overflow) fail("an integer beyond 64 bits");
  return Value(result);
}

Value real_arithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::add: return Value(a + b);
    case Op::subtract: return Value(a - b);
    case Op::multiply: return Value(a * b);
    default: break;
  }
  if (b == 0) fail("a division by zero");
  if (op == Op::divide) return Value(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return op == Op::modulo ? Value(remainder) : Value(std::floor((a - remainder) / b + 0.5));
}

Value concatenated(Meter& meter, const Value& left, const Value& right) {
  meter.charge_bytes(extent_of(left).weight + extent_of(right).weight);
  return Value(to_text(left) + to_text(right));
}

Value repeated(Meter& meter, const Value& sequence, std::int64_t count) {
  const auto times = static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0));
  if (const List* list = sequence.list()) {
    if (times > 1'000'000) fail("a list repeated too often");
    meter.charge(times * list->items.size());
    std::vector<Value> items;
    for (std::uint64_t i = 0; i < times; ++i) {
      items.insert(items.end(), list->items.begin(), list->items.end());
    }
    return make_list(std::move(items), list->tuple);
  }
  const std::string& text = *sequence.text();
  if (times > (std::uint64_t{1} << 30)) fail("a string repeated too often");
  meter.charge_bytes(times * text.size());
  std::string out;
  out.reserve(times * text.size());
  for (std::uint64_t i = 0; i < times; ++i) out += text;
  return Value(std::move(out));
}

/// Where a slice begins and how many items it takes, by Python's rules.
struct Range {
  std::int64_t start, count, step;
};

Range slice_range(std::int64_t length, std::optional<std::int64_t> start,
                  std::optional<std::int64_t> stop, std::int64_t step) {
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? length : length - 1;
  const auto placed = [&](std::int64_t at) {
    if (at < 0) at = at < -length ? low : at + length;
    return std::clamp(at, low, high);
  };
  const std::int64_t first = start ? placed(*start) : (step > 0 ? low : high);
  const std::int64_t last = stop ? placed(*stop) : (step > 0 ? high : low);
  std::int64_t count = 0;
  if (step > 0 && first < last) count = (last - first - 1) / step + 1;
  if (step < 0 && first > last) count = (first - last - 1) / -step + 1;
  return {first, count, step};
}

}  // namespace

Value apply_binary(Meter& meter, Op op, const Value& left, const Value& right) {
  if (op == Op::concat) return concatenated(meter, left, right);
  const auto a = integer_of(left), b = integer_of(right);
  if (a && b && op != Op::divide) return integer_arithmetic(op, *a, *b);
  const auto x = real_of(left), y = real_of(right);
  if (x && y) return real_arithmetic(op, *x, *y);
  if (op == Op::add && left.text() != nullptr && right.text() != nullptr) {
    return concatenated(meter, left, right);
  }
  if (op == Op::add && left.list() != nullptr && right.list() != nullptr &&
      left.list()->tuple == right.list()->tuple) {
    std::vector<Value> items = left.list()->items;
    items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
    meter.charge(items.size());
    return make_list(std::move(items), left.list()->tuple);
  }
  const auto is_sequence = [](const Value& value) {
    return value.text() != nullptr || value.list() != nullptr;
  };
  if (op == Op::multiply && is_sequence(left) && b) return repeated(meter, left, *b);
  if (op == Op::multiply && is_sequence(right) && a) return repeated(meter, right, *a);
  mismatch(op, left, right);
}

Value apply_unary(Unary::Op op, const Value& operand) {
  if (op == Unary::Op::logical_not) return Value(!truthy(operand));
  const bool negate = op == Unary::Op::negate;
  if (const auto integer = integer_of(operand)) {
    return integer_arithmetic(negate ? Op::subtract : Op::add, 0, *integer);
  }
  if (const double* real = operand.get<double>()) return Value(negate ? -*real : *real);
  wrong_type(negate ? "-" : "+", operand);
}

bool apply_comparison(Meter& meter, Compare::Op op, const Value& left, const Value& right) {
  if (op == Compare::Op::in) return contains(meter, right, left);
  if (op == Compare::Op::not_in) return !contains(meter, right, left);
  meter.charge_bytes(std::min(extent_of(left).weight, extent_of(right).weight));
  switch (op) {
    case Compare::Op::equal: return equal(left, right);
    case Compare::Op::unequal: return !equal(left, right);
    case Compare::Op::less: return less(left, right);
    case Compare::Op::greater: return less(right, left);
    case Compare::Op::less_equal: return less(left, right) || equal(left, right);
    default: return less(right, left) || equal(left, right);
  }
}

Value item_of(Meter& meter, const Value& object, const Value& index) {
  if (object.is<Undefined>()) fail("an item of an undefined value");
  if (const std::string* key = index.text()) {
    meter.charge(1);
    // As in Jinja2, what has no such item may have such an attribute.
    return object.text() != nullptr || object.list() != nullptr ? Value()
                                                                : attribute_of(object, *key);
  }
  const std::optional<std::int64_t> number = integer_of(index);
  if (!number || (object.text() == nullptr && object.list() == nullptr)) return Value();
  if (const List* list = object.list()) {
    const auto size = static_cast<std::int64_t>(list->items.size());
    const std::int64_t at = *number < 0 ? *number + size : *number;
    return at < 0 || at >= size ? Value() : list->items[static_cast<std::size_t>(at)];
  }
  if (*number == std::numeric_limits<std::int64_t>::max()) return Value();
  const std::int64_t last = *number + 1;
  const Value one =
      slice_of(meter, object, number, last == 0 ? std::nullopt : std::optional(last), std::nullopt);
  return one.text()->empty() ? Value() : one;
}

Value slice_of(Meter& meter, const Value& object, std::optional<std::int64_t> start,
               std::optional<std::int64_t> stop, std::optional<std::int64_t> step) {
  if (step == 0) fail("a slice with a step of 0");
  if (step == std::numeric_limits<std::int64_t>::min()) fail("a slice with such a step");
  const Range range = slice_range(length_of(meter, object), start, stop, step.value_or(1));
  if (const List* list = object.list()) {
    meter.charge(static_cast<std::uint64_t>(range.count));
    std::vector<Value> items;
    for (std::int64_t i = 0; i < range.count; ++i) {
      items.push_back(list->items[static_cast<std::size_t>(range.start + i * range.step)]);
    }
    return make_list(std::move(items), list->tuple);
  }
  const std::string* text = object.text();
  if (text == nullptr) wrong_type("a slice", object);
  meter.charge_bytes(text->size() * 2);
  std::vector<std::uint32_t> starts;  // of every character, and the end
  for (std::size_t at = 0, size = 0; at < text->size(); at += size) {
    starts.push_back(static_cast<std::uint32_t>(at));
    next_valid_char(std::string_view(*text).substr(at), size);
  }
  starts.push_back(static_cast<std::uint32_t>(text->size()));
  std::string out;
  for (std::int64_t i = 0; i < range.count; ++i) {
    const auto at = static_cast<std::size_t>(range.start + i * range.step);
    out.append(*text, starts[at], starts[at + 1] - starts[at]);
  }
  return Value(std::move(out));
}

}  // namespace farmesh::text::jinja
