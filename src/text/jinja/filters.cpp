#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "text/jinja/builtins.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

/// str() of anything, charged. Most filters on text begin so.
std::string text_of(Meter& meter, const Value& value) {
  meter.charge_bytes(extent_of(value).weight);
  return to_text(value);
}

Value trim(Meter& meter, const Value& value, const Args& args) {
  const std::string text = text_of(meter, value);
  return Value(std::string(strip(text, args.text(0), true, true)));
}

Value length(Meter& meter, const Value& value, const Args&) {
  return Value(length_of(meter, value));
}

Value upper(Meter& meter, const Value& value, const Args&) {
  return Value(to_upper(text_of(meter, value)));
}
Value lower(Meter& meter, const Value& value, const Args&) {
  return Value(to_lower(text_of(meter, value)));
}

/// Unlike str.title(), words begin only after white space, hyphens and opening brackets.
Value title(Meter& meter, const Value& value, const Args&) {
  const std::string text = text_of(meter, value);
  std::string out;
  std::size_t word = 0;
  const auto put_word = [&](std::size_t end) {
    out += capitalize(std::string_view(text).substr(word, end - word));
  };
  for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
    const char32_t c = next_valid_char(std::string_view(text).substr(at), size);
    if (!is_space(c) && c != '-' && c != '(' && c != '{' && c != '[' && c != '<') continue;
    put_word(at);
    out.append(text, at, size);
    word = at + size;
  }
  put_word(text.size());
  return Value(std::move(out));
}

Value capitalized(Meter& meter, const Value& value, const Args&) {
  return Value(capitalize(text_of(meter, value)));
}
Value string(Meter& meter, const Value& value, const Args&) { return Value(text_of(meter, value)); }
Value unchanged(Meter&, const Value& value, const Args&) { return value; }

Value tojson(Meter& meter, const Value& value, const Args& args) {
  JsonStyle style;
  style.ascii = args.boolean(0, false);
  style.sort_keys = args.boolean(3, false);
  if (const auto indent = args.integer(1)) {
    if (*indent < 0 || *indent > 16) fail("tojson with such an indent");
    style.indent = static_cast<int>(*indent);
    style.between_items.assign(1, ',');
  }
  if (const Value* separators = args.find(2); separators && !separators->is<None>()) {
    const List* pair = separators->list();
    if (pair == nullptr || pair->items.size() != 2 || pair->items[0].text() == nullptr ||
        pair->items[1].text() == nullptr) {
      fail("tojson with such separators");
    }
    style.between_items = *pair->items[0].text();
    style.after_key = *pair->items[1].text();
  }
  const Extent extent = extent_of(value);
  const std::uint64_t per_value =
      6 + style.between_items.size() + style.after_key.size() +
      static_cast<std::uint64_t>(std::max(style.indent, 0)) * extent.depth;
  meter.charge_bytes(extent.weight * per_value);
  return Value(to_json(value, style));
}

Value fallback(Meter&, const Value& value, const Args& args) {
  const bool missing = value.is<Undefined>() || (args.boolean(1, false) && !truthy(value));
  if (!missing) return value;
  return args.find(0) == nullptr ? Value(std::string()) : args[0];
}

Value first(Meter& meter, const Value& value, const Args&) {
  const std::vector<Value> items = items_of(meter, value);
  return items.empty() ? Value() : items.front();
}
Value last(Meter& meter, const Value& value, const Args&) {
  const std::vector<Value> items = items_of(meter, value);
  return items.empty() ? Value() : items.back();
}

Value join(Meter& meter, const Value& value, const Args& args) {
  const std::string between = args.find(0) == nullptr ? "" : text_of(meter, args[0]);
  const std::optional<std::string> attribute = args.text(1);
  std::string out;
  bool started = false;
  for (const Value& item : items_of(meter, value)) {
    meter.charge_bytes(between.size());
    if (started) out += between;
    started = true;
    out += text_of(meter, attribute ? attribute_of(item, *attribute) : item);
  }
  return Value(std::move(out));
}

Value replace(Meter& meter, const Value& value, const Args& args) {
  const std::string from = text_of(meter, args[0]);
  const std::string to = text_of(meter, args[1]);
  return Value(replace_all(meter, text_of(meter, value), from, to, args.integer(2).value_or(-1)));
}

Value list(Meter& meter, const Value& value, const Args&) {
  return make_list(items_of(meter, value));
}

Value reverse(Meter& meter, const Value& value, const Args&) {
  std::vector<Value> items = items_of(meter, value);
  std::reverse(items.begin(), items.end());
  if (value.text() == nullptr) return make_list(std::move(items));
  std::string out;
  for (const Value& item : items) out += *item.text();
  return Value(std::move(out));
}

Value items(Meter& meter, const Value& value, const Args&) {
  if (value.is<Undefined>()) return make_list({});
  const Dict* dict = value.dict();
  if (dict == nullptr) wrong_type("items", value);
  meter.charge_items(dict->members.size());
  std::vector<Value> pairs;
  for (const auto& [name, held] : dict->members) {
    pairs.push_back(make_list({Value(name), held}, true));
  }
  return make_list(std::move(pairs));
}

Value dictsort(Meter& meter, const Value& value, const Args&) {
  const Dict* dict = value.dict();
  if (dict == nullptr) wrong_type("dictsort", value);
  meter.charge_bytes(dict->extent.weight);
  std::vector<std::pair<std::string, Value>> members;
  for (const auto& [name, held] : dict->members) {
    members.emplace_back(to_lower(name), make_list({Value(name), held}, true));
  }
  std::stable_sort(members.begin(), members.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Value> pairs;
  for (auto& member : members) pairs.push_back(std::move(member.second));
  return make_list(std::move(pairs));
}

/// What sort and unique compare by: strings without regard to case, unless asked to.
Value sort_key(const Value& item, const std::optional<std::string>& attribute, bool exact) {
  Value key = attribute ? attribute_of(item, *attribute) : item;
  return key.text() != nullptr && !exact ? Value(to_lower(*key.text())) : key;
}

Value sort(Meter& meter, const Value& value, const Args& args) {
  const std::optional<std::string> attribute = args.text(2);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items_of(meter, value)) {
    meter.charge_bytes(extent_of(item).weight * 16);  // compared with log n others
    keyed.emplace_back(sort_key(item, attribute, args.boolean(1, false)), item);
  }
  const bool descending = args.boolean(0, false);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return descending ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> sorted;
  for (auto& item : keyed) sorted.push_back(std::move(item.second));
  return make_list(std::move(sorted));
}

Value unique(Meter& meter, const Value& value, const Args& args) {
  const std::optional<std::string> attribute = args.text(1);
  std::vector<Value> keys;
  std::vector<Value> kept;
  for (const Value& item : items_of(meter, value)) {
    Value key = sort_key(item, attribute, args.boolean(0, false));
    meter.charge(keys.size());
    meter.charge_bytes(extent_of(item).weight * keys.size());
    const bool known = std::any_of(keys.begin(), keys.end(),
                                   [&](const Value& other) { return equal(key, other); });
    if (known) continue;
    keys.push_back(std::move(key));
    kept.push_back(item);
  }
  return make_list(std::move(kept));
}

Value to_int(Meter&, const Value& value, const Args& args) {
  const Value otherwise = args.find(0) == nullptr ? Value(std::int64_t{0}) : args[0];
  if (value.is<std::int64_t>()) return value;
  if (const bool* boolean = value.get<bool>()) return Value(std::int64_t{*boolean});
  double real = std::numeric_limits<double>::quiet_NaN();
  if (const double* number = value.get<double>()) real = *number;
  if (const std::string* text = value.text()) {
    const std::string_view digits = strip(*text, std::nullopt, true, true);
    const bool plus = digits.starts_with('+') && !digits.starts_with("+-");
    const char* begin = digits.data() + (plus ? 1 : 0);
    const char* end = digits.data() + digits.size();
    std::int64_t integer = 0;
    const auto whole = std::from_chars(begin, end, integer);
    if (whole.ec == std::errc() && whole.ptr == end) return Value(integer);
    const auto part = std::from_chars(begin, end, real);
    if (part.ec != std::errc() || part.ptr != end) return otherwise;
  }
  if (!(std::abs(real) < 9e18)) return otherwise;
  return Value(static_cast<std::int64_t>(real));
}

Value absolute(Meter&, const Value& value, const Args&) {
  if (const auto* integer = value.get<std::int64_t>()) {
    if (*integer == std::numeric_limits<std::int64_t>::min()) fail("a number out of range");
    return Value(std::abs(*integer));
  }
  if (const double* real = value.get<double>()) return Value(std::abs(*real));
  wrong_type("abs", value);
}

Value indent(Meter& meter, const Value& value, const Args& args) {
  std::string margin;
  if (const Value* width = args.find(0); width != nullptr && width->text() != nullptr) {
    margin = *width->text();
  } else {
    const std::int64_t spaces = args.integer(0).value_or(4);
    if (spaces < 0 || spaces > 256) fail("indent by such a width");
    margin.assign(static_cast<std::size_t>(spaces), ' ');
  }
  const bool first_too = args.boolean(1, false);
  const bool blank_too = args.boolean(2, false);
  const std::string text = text_of(meter, value);
  std::string out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    meter.charge_bytes(margin.size());
    const bool wanted = begin == 0 ? first_too : (end > begin || blank_too);
    if (wanted) out += margin;
    out.append(text, begin, end - begin);
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return Value(std::move(out));
}

const Builtin kFilters[] = {
    {"abs", {}, 0, absolute},
    {"capitalize", {}, 0, capitalized},
    {"count", {}, 0, length},
    {"d", {"default_value", "boolean"}, 0, fallback},
    {"default", {"default_value", "boolean"}, 0, fallback},
    {"dictsort", {}, 0, dictsort},
    {"first", {}, 0, first},
    {"indent", {"width", "first", "blank"}, 0, indent},
    {"int", {"default"}, 0, to_int},
    {"items", {}, 0, items},
    {"join", {"d", "attribute"}, 0, join},
    {"last", {}, 0, last},
    {"length", {}, 0, length},
    {"list", {}, 0, list},
    {"lower", {}, 0, lower},
    {"replace", {"old", "new", "count"}, 2, replace},
    {"reverse", {}, 0, reverse},
    {"safe", {}, 0, unchanged},
    {"sort", {"reverse", "case_sensitive", "attribute"}, 0, sort},
    {"string", {}, 0, string},
    {"title", {}, 0, title},
    {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, tojson},
    {"trim", {"chars"}, 0, trim},
    {"unique", {"case_sensitive", "attribute"}, 0, unique},
    {"upper", {}, 0, upper},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  for (const Builtin& filter : kFilters) {
    if (filter.name == name) return &filter;
  }
  return nullptr;
}

}  // namespace farmesh::text::jinja
