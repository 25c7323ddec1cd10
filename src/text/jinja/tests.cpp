// What may stand after "is". (The project's own tests are in tests/.)
#include "text/jinja/builtins.hpp"
#include "text/unicode.hpp"

namespace farmesh::text::jinja {
namespace {

using Run = Builtin::Run;

template <class T>
Value is_kind(Meter&, const Value& value, const Args&) {
  return Value(value.is<T>());
}

Value defined(Meter&, const Value& value, const Args&) { return Value(!value.is<Undefined>()); }

Value number(Meter&, const Value& value, const Args&) {
  return Value(value.is<std::int64_t>() || value.is<double>() || value.is<bool>());
}

/// Python's strings, lists and dicts have both a length and indices.
Value sequence(Meter&, const Value& value, const Args&) {
  return Value(value.is<Text>() || value.is<ListPtr>() || value.is<DictPtr>() ||
               value.is<Undefined>());
}

Value callable(Meter&, const Value& value, const Args&) {
  return Value(value.is<const Macro*>() || value.is<const Function*>());
}

template <bool Wanted>
Value is_bool(Meter&, const Value& value, const Args&) {
  const bool* held = value.get<bool>();
  return Value(held != nullptr && *held == Wanted);
}

void charge_comparison(Meter& meter, const Value& a, const Value& b) {
  meter.charge_bytes(std::min(extent_of(a).weight, extent_of(b).weight));
}

Value equal_to(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(equal(value, args[0]));
}
Value unequal_to(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(!equal(value, args[0]));
}
Value less_than(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(less(value, args[0]));
}
Value less_or_equal(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(less(value, args[0]) || equal(value, args[0]));
}
Value greater_than(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(less(args[0], value));
}
Value greater_or_equal(Meter& meter, const Value& value, const Args& args) {
  charge_comparison(meter, value, args[0]);
  return Value(less(args[0], value) || equal(value, args[0]));
}

Value is_in(Meter& meter, const Value& value, const Args& args) {
  return Value(contains(meter, args[0], value));
}

bool divides(const Value& value, std::int64_t divisor) {
  const auto* integer = value.get<std::int64_t>();
  if (integer == nullptr) wrong_type("a remainder", value);
  if (divisor == 0) fail("a division by zero");
  return divisor == -1 || *integer % divisor == 0;
}

Value divisible_by(Meter&, const Value& value, const Args& args) {
  return Value(divides(value, args.integer(0).value_or(0)));
}
Value even(Meter&, const Value& value, const Args&) { return Value(divides(value, 2)); }
Value odd(Meter&, const Value& value, const Args&) { return Value(!divides(value, 2)); }

const Builtin kTests[] = {
    {"boolean", {}, 0, is_kind<bool>},
    {"callable", {}, 0, callable},
    {"defined", {}, 0, defined},
    {"divisibleby", {"num"}, 1, divisible_by},
    {"eq", {"other"}, 1, equal_to},
    {"equalto", {"other"}, 1, equal_to},
    {"==", {"other"}, 1, equal_to},
    {"even", {}, 0, even},
    {"false", {}, 0, is_bool<false>},
    {"float", {}, 0, is_kind<double>},
    {"ge", {"other"}, 1, greater_or_equal},
    {"greaterthan", {"other"}, 1, greater_than},
    {"gt", {"other"}, 1, greater_than},
    {"in", {"seq"}, 1, is_in},
    {"integer", {}, 0, is_kind<std::int64_t>},
    {"iterable", {}, 0, sequence},
    {"le", {"other"}, 1, less_or_equal},
    {"lessthan", {"other"}, 1, less_than},
    {"lt", {"other"}, 1, less_than},
    {"mapping", {}, 0, is_kind<DictPtr>},
    {"ne", {"other"}, 1, unequal_to},
    {"!=", {"other"}, 1, unequal_to},
    {"none", {}, 0, is_kind<None>},
    {"number", {}, 0, number},
    {"odd", {}, 0, odd},
    {"sequence", {}, 0, sequence},
    {"string", {}, 0, is_kind<Text>},
    {"true", {}, 0, is_bool<true>},
    {"undefined", {}, 0, is_kind<Undefined>},
};

}  // namespace

const Builtin* find_test(std::string_view name) {
  for (const Builtin& test : kTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace farmesh::text::jinja
