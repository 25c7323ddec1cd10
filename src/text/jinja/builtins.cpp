#include "text/jinja/builtins.hpp"

#include <algorithm>
#include <array>

#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;

const std::string& text_argument(const Function& function, const Call& call) {
  const std::string* text =
      call.positional.size() == 1 && call.named.empty() ? call.positional.front().text() : nullptr;
  if (text == nullptr) fail(std::string(function.name) + " wants one string");
  return *text;
}

Dict named_arguments(const Function& function, const Call& call) {
  if (!call.positional.empty()) {
    fail(std::string(function.name) + " with arguments that have no name");
  }
  Dict dict;
  for (const auto& [name, value] : call.named) {
    require_plain(value);
    dict.set(name, value);
  }
  return dict;
}

Value raise_exception(Meter&, std::time_t, const Call& call);
Value strftime_now(Meter&, std::time_t now, const Call& call);
Value make_namespace(Meter&, std::time_t, const Call& call);
Value make_dict_value(Meter&, std::time_t, const Call& call);
Value range(Meter& meter, std::time_t, const Call& call);

constexpr std::array<Function, 5> kFunctions = {{
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
    {"namespace", make_namespace},
    {"dict", make_dict_value},
    {"range", range},
}};

Value raise_exception(Meter&, std::time_t, const Call& call) {
  fail(text_argument(kFunctions[0], call));
}

Value strftime_now(Meter&, std::time_t now, const Call& call) {
  const std::string& format = text_argument(kFunctions[1], call);
  std::tm time{};
  if (::localtime_r(&now, &time) == nullptr) fail("the clock cannot be read");
  // strftime() gives 0 for "too long" as for "nothing": a byte of ours tells them apart.
  std::array<char, 1024> buffer;
  const std::string marked = format + "|";
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), marked.c_str(), &time);
  if (size == 0) fail("strftime_now gives too long a text");
  return Value(to_valid_utf8({buffer.data(), size - 1}));
}

Value make_namespace(Meter&, std::time_t, const Call& call) {
  auto space = std::make_shared<Namespace>();
  space->attributes = named_arguments(kFunctions[2], call);
  return Value(NamespacePtr(std::move(space)));
}

Value make_dict_value(Meter&, std::time_t, const Call& call) {
  return make_dict(named_arguments(kFunctions[3], call));
}

Value range(Meter& meter, std::time_t, const Call& call) {
  std::array<std::int64_t, 3> bounds{0, 0, 1};
  const std::size_t count = call.positional.size();
  if (count == 0 || count > 3 || !call.named.empty()) fail("range wants one to three numbers");
  for (std::size_t i = 0; i < count; ++i) {
    const auto* number = call.positional[i].get<std::int64_t>();
    if (number == nullptr) wrong_type("range", call.positional[i]);
    bounds[count == 1 ? 1 : i] = *number;
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) fail("range with a step of 0");
  std::vector<Value> items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kMaxRange) fail("range gives too many numbers");
    meter.charge_items(1);
    items.push_back(Value(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(std::move(items));
}

}  // namespace

const Function* find_function(std::string_view name) {
  for (const Function& function : kFunctions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

std::optional<std::string> Args::text(std::size_t i) const {
  const Value* value = find(i);
  if (value == nullptr || value->is<None>()) return std::nullopt;
  if (value->text() == nullptr) wrong_type("a string argument", *value);
  return *value->text();
}

std::optional<std::int64_t> Args::integer(std::size_t i) const {
  const Value* value = find(i);
  if (value == nullptr || value->is<None>()) return std::nullopt;
  if (const bool* boolean = value->get<bool>()) return *boolean;
  const auto* number = value->get<std::int64_t>();
  if (number == nullptr) wrong_type("an integer argument", *value);
  return *number;
}

bool Args::boolean(std::size_t i, bool fallback) const {
  const Value* value = find(i);
  return value == nullptr ? fallback : truthy(*value);
}

void wrong_type(std::string_view what, const Value& value) {
  fail(std::string(what) + " of " + std::string(type_name(value)));
}

std::vector<Value> items_of(Meter& meter, const Value& value) {
  std::vector<Value> items;
  if (value.is<Undefined>()) return items;
  if (const List* list = value.list()) {
    meter.charge(list->items.size());
    return list->items;
  }
  if (const Dict* dict = value.dict()) {
    meter.charge_items(dict->members.size());
    for (const auto& member : dict->members) items.push_back(Value(member.first));
    return items;
  }
  const std::string* text = value.text();
  if (text == nullptr) wrong_type("iteration", value);
  meter.charge_items(count_chars(*text));
  for (std::string_view left = *text; !left.empty();) {
    std::size_t size = 0;
    next_valid_char(left, size);
    items.push_back(Value(std::string(left.substr(0, size))));
    left.remove_prefix(size);
  }
  return items;
}

Value attribute_of(const Value& object, std::string_view name) {
  const Value* found = nullptr;
  if (object.is<Undefined>()) {
    fail("\"" + std::string(name) + "\" of an undefined value");
  } else if (const Dict* dict = object.dict()) {
    found = dict->find(name);
  } else if (const NamespacePtr* space = object.get<NamespacePtr>()) {
    found = (*space)->attributes.find(name);
  } else if (const LoopPtr* held = object.get<LoopPtr>()) {
    const Loop& loop = **held;
    const auto number = [](std::size_t n) { return Value(static_cast<std::int64_t>(n)); };
    if (name == "index") return number(loop.index0 + 1);
    if (name == "index0") return number(loop.index0);
    if (name == "revindex") return number(loop.length - loop.index0);
    if (name == "revindex0") return number(loop.length - loop.index0 - 1);
    if (name == "first") return Value(loop.index0 == 0);
    if (name == "last") return Value(loop.index0 + 1 == loop.length);
    if (name == "length") return number(loop.length);
    if (name == "depth") return number(loop.depth);
    if (name == "depth0") return number(loop.depth - 1);
    if (name == "previtem") return loop.previous;
    if (name == "nextitem") return loop.next;
    fail("loop." + std::string(name));
  }
  return found == nullptr ? Value() : *found;
}

std::int64_t length_of(Meter& meter, const Value& value) {
  if (value.is<Undefined>()) return 0;
  if (const std::string* text = value.text()) {
    meter.charge_bytes(text->size());
    return static_cast<std::int64_t>(count_chars(*text));
  }
  if (const List* list = value.list()) return static_cast<std::int64_t>(list->items.size());
  if (const Dict* dict = value.dict()) return static_cast<std::int64_t>(dict->members.size());
  wrong_type("length", value);
}

bool contains(Meter& meter, const Value& container, const Value& item) {
  if (container.is<Undefined>()) return false;
  if (const std::string* text = container.text()) {
    if (item.text() == nullptr) wrong_type("looking in a string for a value", item);
    meter.charge_bytes(text->size());
    return text->find(*item.text()) != text->npos;
  }
  if (const Dict* dict = container.dict()) {
    meter.charge(dict->members.size());
    return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  }
  const List* list = container.list();
  if (list == nullptr) wrong_type("\"in\"", container);
  meter.charge(list->items.size());
  meter.charge_bytes(std::min(list->extent.weight, extent_of(item).weight * list->items.size()));
  return std::any_of(list->items.begin(), list->items.end(),
                     [&](const Value& held) { return equal(held, item); });
}

std::string replace_all(Meter& meter, std::string_view text, std::string_view from,
                        std::string_view to, std::int64_t count) {
  meter.charge_bytes(text.size());
  std::string out;
  // An empty `from` stands before every character and at the end.
  std::size_t done = 0;
  for (std::size_t search = 0; count != 0 && search <= text.size(); --count) {
    const std::size_t at = from.empty() ? search : text.find(from, search);
    if (at == text.npos) break;
    meter.charge_bytes(to.size());
    out.append(text.substr(done, at - done)).append(to);
    done = at + from.size();
    search = done;
    if (from.empty()) {
      if (at == text.size()) break;
      std::size_t size = 0;
      next_valid_char(text.substr(at), size);
      search = at + size;
    }
  }
  return out.append(text.substr(std::min(done, text.size())));
}

std::string_view strip(std::string_view text, const std::optional<std::string>& chars, bool left,
                       bool right) {
  const auto strips = [&](std::string_view c) {
    if (chars) return chars->find(c) != chars->npos;
    std::size_t size = 0;
    const char32_t code = next_valid_char(c, size);
    return is_space(code) || (code >= 0x1C && code <= 0x1F);  // Python counts these too
  };
  while (left && !text.empty()) {
    std::size_t size = 0;
    next_valid_char(text, size);
    if (!strips(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (right && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!strips(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  std::size_t size = 0;
  next_valid_char(text, size);
  return to_title(text.substr(0, size)) + to_lower(text.substr(size));
}

}  // namespace farmesh::text::jinja
