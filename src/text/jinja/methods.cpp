// object.method(…): of strings and dicts, and the loop's cycle().
#include <algorithm>

#include "text/jinja/builtins.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

const std::string& own_text(Meter& meter, const Value& object, std::string_view method) {
  if (object.text() == nullptr) wrong_type(method, object);
  meter.charge_bytes(object.text()->size());
  return *object.text();
}

const Dict& own_dict(Meter& meter, const Value& object, std::string_view method) {
  if (object.dict() == nullptr) wrong_type(method, object);
  meter.charge_items(object.dict()->members.size());
  return *object.dict();
}

Value strip_both(Meter& meter, const Value& object, const Args& args) {
  return Value(std::string(strip(own_text(meter, object, "strip"), args.text(0), true, true)));
}
Value strip_left(Meter& meter, const Value& object, const Args& args) {
  return Value(std::string(strip(own_text(meter, object, "lstrip"), args.text(0), true, false)));
}
Value strip_right(Meter& meter, const Value& object, const Args& args) {
  return Value(std::string(strip(own_text(meter, object, "rstrip"), args.text(0), false, true)));
}
Value upper(Meter& meter, const Value& object, const Args&) {
  return Value(to_upper(own_text(meter, object, "upper")));
}
Value lower(Meter& meter, const Value& object, const Args&) {
  return Value(to_lower(own_text(meter, object, "lower")));
}
Value title(Meter& meter, const Value& object, const Args&) {
  return Value(to_title(own_text(meter, object, "title")));
}
Value capitalized(Meter& meter, const Value& object, const Args&) {
  return Value(capitalize(own_text(meter, object, "capitalize")));
}

/// Python takes one string or a tuple of them.
template <class Matches>
bool any_of_texts(const Value& wanted, Matches matches) {
  if (wanted.text() != nullptr) return matches(*wanted.text());
  const List* list = wanted.list();
  if (list == nullptr || !list->tuple) wrong_type("the beginning or end of a string", wanted);
  return std::any_of(list->items.begin(), list->items.end(), [&](const Value& item) {
    if (item.text() == nullptr) wrong_type("the beginning or end of a string", item);
    return matches(*item.text());
  });
}

Value starts_with(Meter& meter, const Value& object, const Args& args) {
  const std::string& text = own_text(meter, object, "startswith");
  return Value(any_of_texts(args[0], [&](const std::string& s) { return text.starts_with(s); }));
}
Value ends_with(Meter& meter, const Value& object, const Args& args) {
  const std::string& text = own_text(meter, object, "endswith");
  return Value(any_of_texts(args[0], [&](const std::string& s) { return text.ends_with(s); }));
}

Value remove_prefix(Meter& meter, const Value& object, const Args& args) {
  std::string_view text = own_text(meter, object, "removeprefix");
  const std::string prefix = args.text(0).value_or("");
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  return Value(std::string(text));
}
Value remove_suffix(Meter& meter, const Value& object, const Args& args) {
  std::string_view text = own_text(meter, object, "removesuffix");
  const std::string suffix = args.text(0).value_or("");
  if (text.ends_with(suffix)) text.remove_suffix(suffix.size());
  return Value(std::string(text));
}

Value replace(Meter& meter, const Value& object, const Args& args) {
  const std::string& text = own_text(meter, object, "replace");
  const auto from = args.text(0), to = args.text(1);
  if (!from || !to) fail("replace without strings");
  return Value(replace_all(meter, text, *from, *to, args.integer(2).value_or(-1)));
}

/// By white space, of which runs count once and ends not at all.
std::vector<Value> split_at_space(Meter& meter, std::string_view text, std::int64_t limit) {
  const auto is_blank_at = [&](std::size_t at, std::size_t& size) {
    next_valid_char(text.substr(at), size);
    return strip(text.substr(at, size), std::nullopt, true, false).empty();
  };
  std::vector<Value> parts;
  while (true) {
    text = strip(text, std::nullopt, true, false);
    if (text.empty()) return parts;
    meter.charge_items(1);
    std::size_t end = 0;
    const bool all = limit >= 0 && parts.size() == static_cast<std::size_t>(limit);
    for (std::size_t size = 0; end < text.size() && (all || !is_blank_at(end, size)); end += size) {
      if (all) size = text.size();
    }
    parts.push_back(Value(std::string(text.substr(0, end))));
    text.remove_prefix(end);
  }
}

Value split(Meter& meter, const Value& object, const Args& args) {
  std::string_view text = own_text(meter, object, "split");
  const std::optional<std::string> separator = args.text(0);
  const std::int64_t limit = args.integer(1).value_or(-1);
  if (!separator) return make_list(split_at_space(meter, text, limit));
  if (separator->empty()) fail("split by an empty string");
  std::vector<Value> parts;
  for (std::size_t at; (limit < 0 || parts.size() < static_cast<std::size_t>(limit)) &&
                       (at = text.find(*separator)) != text.npos;) {
    meter.charge_items(1);
    parts.push_back(Value(std::string(text.substr(0, at))));
    text.remove_prefix(at + separator->size());
  }
  parts.push_back(Value(std::string(text)));
  return make_list(std::move(parts));
}

Value split_from_right(Meter& meter, const Value& object, const Args& args) {
  std::string_view text = own_text(meter, object, "rsplit");
  const std::optional<std::string> separator = args.text(0);
  const std::int64_t limit = args.integer(1).value_or(-1);
  if (!separator || separator->empty()) fail("rsplit without a separator");
  std::vector<Value> parts;
  for (std::size_t at; (limit < 0 || parts.size() < static_cast<std::size_t>(limit)) &&
                       (at = text.rfind(*separator)) != text.npos;) {
    meter.charge_items(1);
    parts.push_back(Value(std::string(text.substr(at + separator->size()))));
    text = text.substr(0, at);
  }
  parts.push_back(Value(std::string(text)));
  std::reverse(parts.begin(), parts.end());
  return make_list(std::move(parts));
}

/// Lines end at \n, \r or \r\n, and without those that only Unicode knows.
Value split_lines(Meter& meter, const Value& object, const Args&) {
  const std::string& text = own_text(meter, object, "splitlines");
  std::vector<Value> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    meter.charge_items(1);
    const std::size_t end = std::min(text.find_first_of("\r\n", begin), text.size());
    lines.push_back(Value(text.substr(begin, end - begin)));
    begin = end + (text.compare(end, 2, "\r\n") == 0 ? 2 : 1);
  }
  return make_list(std::move(lines));
}

Value find(Meter& meter, const Value& object, const Args& args) {
  const std::string& text = own_text(meter, object, "find");
  const std::size_t at = text.find(args.text(0).value_or(""));
  if (at == text.npos) return Value(std::int64_t{-1});
  return Value(static_cast<std::int64_t>(count_chars(std::string_view(text).substr(0, at))));
}

Value count(Meter& meter, const Value& object, const Args& args) {
  const std::string& text = own_text(meter, object, "count");
  const std::string wanted = args.text(0).value_or("");
  if (wanted.empty()) return Value(static_cast<std::int64_t>(count_chars(text) + 1));
  std::int64_t found = 0;
  for (std::size_t at = text.find(wanted); at != text.npos;
       at = text.find(wanted, at + wanted.size())) {
    ++found;
  }
  return Value(found);
}

Value join(Meter& meter, const Value& object, const Args& args) {
  const std::string& between = own_text(meter, object, "join");
  std::string out;
  bool started = false;
  for (const Value& item : items_of(meter, args[0])) {
    if (item.text() == nullptr) wrong_type("join", item);
    meter.charge_bytes(between.size() + item.text()->size());
    if (started) out += between;
    started = true;
    out += *item.text();
  }
  return Value(std::move(out));
}

Value is_digit(Meter& meter, const Value& object, const Args&) {
  const std::string& text = own_text(meter, object, "isdigit");
  return Value(!text.empty() &&
               std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }));
}

Value items(Meter& meter, const Value& object, const Args&) {
  std::vector<Value> pairs;
  for (const auto& [name, value] : own_dict(meter, object, "items").members) {
    pairs.push_back(make_list({Value(name), value}, true));
  }
  return make_list(std::move(pairs));
}

Value keys(Meter& meter, const Value& object, const Args&) {
  std::vector<Value> names;
  for (const auto& member : own_dict(meter, object, "keys").members) {
    names.push_back(Value(member.first));
  }
  return make_list(std::move(names));
}

Value values(Meter& meter, const Value& object, const Args&) {
  std::vector<Value> held;
  for (const auto& member : own_dict(meter, object, "values").members) {
    held.push_back(member.second);
  }
  return make_list(std::move(held));
}

Value get(Meter& meter, const Value& object, const Args& args) {
  const Dict& dict = own_dict(meter, object, "get");
  const Value* found = args[0].text() == nullptr ? nullptr : dict.find(*args[0].text());
  if (found != nullptr) return *found;
  return args.find(1) == nullptr ? Value(None{}) : args[1];
}

const Builtin kMethods[] = {
    {"capitalize", {}, 0, capitalized},
    {"count", {"sub"}, 1, count},
    {"endswith", {"suffix"}, 1, ends_with},
    {"find", {"sub"}, 1, find},
    {"get", {"key", "default"}, 1, get},
    {"isdigit", {}, 0, is_digit},
    {"items", {}, 0, items},
    {"join", {"iterable"}, 1, join},
    {"keys", {}, 0, keys},
    {"lower", {}, 0, lower},
    {"lstrip", {"chars"}, 0, strip_left},
    {"removeprefix", {"prefix"}, 1, remove_prefix},
    {"removesuffix", {"suffix"}, 1, remove_suffix},
    {"replace", {"old", "new", "count"}, 2, replace},
    {"rsplit", {"sep", "maxsplit"}, 1, split_from_right},
    {"rstrip", {"chars"}, 0, strip_right},
    {"split", {"sep", "maxsplit"}, 0, split},
    {"splitlines", {}, 0, split_lines},
    {"startswith", {"prefix"}, 1, starts_with},
    {"strip", {"chars"}, 0, strip_both},
    {"title", {}, 0, title},
    {"upper", {}, 0, upper},
    {"values", {}, 0, values},
};

}  // namespace

const Builtin* find_method(std::string_view name) {
  for (const Builtin& method : kMethods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace farmesh::text::jinja
