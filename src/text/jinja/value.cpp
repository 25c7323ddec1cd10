#include "text/jinja/value.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/failure.hpp"
#include "text/unicode.hpp"
#include "text/utf8.hpp"

namespace farmesh::text::jinja {
namespace {

constexpr std::uint32_t kMaxDepth = 64;
constexpr std::uint64_t kMaxWeight = 64u << 20;
constexpr std::size_t kMaxMembers = 256;  // of a dict, whose members are looked for one by one

void add_to(Extent& whole, const Value& part) {
  require_plain(part);
  const Extent extent = extent_of(part);
  whole.depth = std::max(whole.depth, extent.depth + 1);
  whole.weight += extent.weight;
  if (whole.depth > kMaxDepth) fail("containers nested too deeply");
  if (whole.weight > kMaxWeight) fail("a container too large to print");
}

/// Numbers and booleans as Python mixes them.
struct Number {
  bool exact;  // an integer
  std::int64_t integer;
  double real;
};

bool number_of(const Value& value, Number& out) noexcept {
  if (const bool* b = value.get<bool>()) {
    out = {true, *b, static_cast<double>(*b)};
  } else if (const auto* i = value.get<std::int64_t>()) {
    out = {true, *i, static_cast<double>(*i)};
  } else if (const double* d = value.get<double>()) {
    out = {false, 0, *d};
  } else {
    return false;
  }
  return true;
}

bool equal_lists(const List& a, const List& b) noexcept {
  return a.tuple == b.tuple &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(),
                    [](const Value& x, const Value& y) { return equal(x, y); });
}

bool equal_dicts(const Dict& a, const Dict& b) noexcept {
  return a.members.size() == b.members.size() &&
         std::all_of(a.members.begin(), a.members.end(), [&](const auto& member) {
           const Value* other = b.find(member.first);
           return other != nullptr && equal(member.second, *other);
         });
}

void append_hex(std::string& out, char32_t c, const char* prefix, int digits) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += prefix;
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out += kHex[c >> shift & 15];
}

/// Python's repr() of a string; every printable character outside ASCII stays as it is.
void append_quoted(std::string& out, std::string_view text) {
  const bool has_single = text.find('\'') != text.npos;
  const char32_t quote = has_single && text.find('"') == text.npos ? '"' : '\'';
  append_utf8(out, quote);
  while (!text.empty()) {
    std::size_t size = 0;
    const char32_t c = next_valid_char(text, size);
    switch (c) {
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\\': out += "\\\\"; break;
      default:
        if (c == quote) {
          out += '\\';
          append_utf8(out, c);
        } else if (is_printable(c)) {
          out.append(text.substr(0, size));
        } else if (c < 0x100) {
          append_hex(out, c, "\\x", 2);
        } else if (c < 0x10000) {
          append_hex(out, c, "\\u", 4);
        } else {
          append_hex(out, c, "\\U", 8);
        }
    }
    text.remove_prefix(size);
  }
  append_utf8(out, quote);
}

void append_json_string(std::string& out, std::string_view text, bool ascii) {
  out += '"';
  while (!text.empty()) {
    std::size_t size = 0;
    const char32_t c = next_valid_char(text, size);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (c >= 0x10000 && ascii) {
          append_hex(out, 0xD800 + ((c - 0x10000) >> 10), "\\u", 4);
          append_hex(out, 0xDC00 + ((c - 0x10000) & 0x3FF), "\\u", 4);
        } else if (c < 0x20 || (c >= 0x7F && ascii)) {
          append_hex(out, c, "\\u", 4);
        } else {
          out.append(text.substr(0, size));
        }
    }
    text.remove_prefix(size);
  }
  out += '"';
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value) {
    if (const std::string* text = value.text()) return append_json_string(out, *text, style_.ascii);
    if (const List* list = value.list()) return write_list(*list);
    if (const Dict* dict = value.dict()) return write_dict(*dict);
    if (const bool* b = value.get<bool>()) {
      out += *b ? "true" : "false";
    } else if (value.is<None>()) {
      out += "null";
    } else if (value.is<std::int64_t>()) {
      out += to_text(value);
    } else if (const double* d = value.get<double>()) {
      out += std::isnan(*d)   ? "NaN"
             : std::isinf(*d) ? (*d > 0 ? "Infinity" : "-Infinity")
                              : float_text(*d);
    } else {
      fail("tojson of " + std::string(type_name(value)));
    }
  }

  std::string out;

 private:
  void separate(bool first) {
    if (!first) out += style_.between_items;
    new_line();
  }
  void new_line() {
    if (style_.indent < 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(style_.indent) * level_, ' ');
  }

  void write_list(const List& list) {
    out += '[';
    ++level_;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      separate(i == 0);
      write(list.items[i]);
    }
    --level_;
    if (!list.items.empty()) new_line();
    out += ']';
  }

  void write_dict(const Dict& dict) {
    std::vector<const std::pair<std::string, Value>*> members;
    for (const auto& member : dict.members) members.push_back(&member);
    if (style_.sort_keys) {
      std::sort(members.begin(), members.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    out += '{';
    ++level_;
    for (std::size_t i = 0; i < members.size(); ++i) {
      separate(i == 0);
      append_json_string(out, members[i]->first, style_.ascii);
      out += style_.after_key;
      write(members[i]->second);
    }
    --level_;
    if (!members.empty()) new_line();
    out += '}';
  }

  const JsonStyle& style_;
  std::size_t level_ = 0;
};

}  // namespace

void Dict::set(std::string_view key, Value value) {
  for (auto& [name, held] : members) {
    if (name != key) continue;
    held = std::move(value);
    return;
  }
  if (members.size() == kMaxMembers) fail("a dict or namespace with too many members");
  members.emplace_back(key, std::move(value));
}

void require_plain(const Value& value) {
  if (value.is<NamespacePtr>() || value.is<LoopPtr>() || value.is<const Macro*>() ||
      value.is<const Function*>()) {
    fail("a container cannot hold a " + std::string(type_name(value)));
  }
}

Extent extent_of(const Value& value) noexcept {
  if (const std::string* text = value.text()) return {0, 1 + text->size()};
  if (const List* list = value.list()) return list->extent;
  if (const Dict* dict = value.dict()) return dict->extent;
  return {};
}

Value make_list(std::vector<Value> items, bool tuple) {
  auto list = std::make_shared<List>();
  list->extent.depth = 1;
  for (const Value& item : items) add_to(list->extent, item);
  list->items = std::move(items);
  list->tuple = tuple;
  return Value(ListPtr(std::move(list)));
}

Value make_dict(Dict dict) {
  dict.extent = {1, 1};
  for (const auto& [name, value] : dict.members) {
    dict.extent.weight += name.size();
    add_to(dict.extent, value);
  }
  return Value(DictPtr(std::make_shared<const Dict>(std::move(dict))));
}

std::string_view type_name(const Value& value) noexcept {
  if (value.is<Undefined>()) return "undefined value";
  if (value.is<None>()) return "none";
  if (value.is<bool>()) return "bool";
  if (value.is<std::int64_t>()) return "int";
  if (value.is<double>()) return "float";
  if (value.is<Text>()) return "str";
  if (const List* list = value.list()) return list->tuple ? "tuple" : "list";
  if (value.is<DictPtr>()) return "dict";
  if (value.is<NamespacePtr>()) return "namespace";
  if (value.is<LoopPtr>()) return "loop";
  return value.is<const Macro*>() ? "macro" : "function";
}

bool truthy(const Value& value) noexcept {
  if (value.is<Undefined>() || value.is<None>()) return false;
  Number number{};
  if (number_of(value, number)) return number.exact ? number.integer != 0 : number.real != 0;
  if (const std::string* text = value.text()) return !text->empty();
  if (const List* list = value.list()) return !list->items.empty();
  if (const Dict* dict = value.dict()) return !dict->members.empty();
  return true;
}

bool equal(const Value& a, const Value& b) noexcept {
  Number x{}, y{};
  if (number_of(a, x) && number_of(b, y)) {
    return x.exact && y.exact ? x.integer == y.integer : x.real == y.real;
  }
  if (a.data().index() != b.data().index()) return false;
  if (a.is<Undefined>() || a.is<None>()) return true;
  if (const std::string* text = a.text()) return *text == *b.text();
  if (const List* list = a.list()) return equal_lists(*list, *b.list());
  if (const Dict* dict = a.dict()) return equal_dicts(*dict, *b.dict());
  if (const NamespacePtr* space = a.get<NamespacePtr>()) return *space == *b.get<NamespacePtr>();
  if (const LoopPtr* loop = a.get<LoopPtr>()) return *loop == *b.get<LoopPtr>();
  if (const auto* macro = a.get<const Macro*>()) return *macro == *b.get<const Macro*>();
  return *a.get<const Function*>() == *b.get<const Function*>();
}

bool less(const Value& a, const Value& b) {
  Number x{}, y{};
  if (number_of(a, x) && number_of(b, y)) {
    return x.exact && y.exact ? x.integer < y.integer : x.real < y.real;
  }
  const std::string* left = a.text();
  const std::string* right = b.text();
  // Bytes of UTF-8 sort as the code points they encode.
  if (left != nullptr && right != nullptr) return *left < *right;
  fail("no order between " + std::string(type_name(a)) + " and " + std::string(type_name(b)));
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(scientific.ptr - buffer));
  int exponent = 0;
  const std::size_t e = text.find('e');
  const char* digits = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr);
  if (out.find('.') == out.npos) out += ".0";
  return out;
}

std::string to_text(const Value& value) {
  if (const std::string* text = value.text()) return *text;
  if (value.is<Undefined>()) return {};
  std::string out;
  append_repr(out, value);
  return out;
}

void append_repr(std::string& out, const Value& value) {
  if (const std::string* text = value.text()) return append_quoted(out, *text);
  if (const auto* integer = value.get<std::int64_t>()) {
    out += std::to_string(*integer);
  } else if (const double* real = value.get<double>()) {
    out += float_text(*real);
  } else if (const bool* boolean = value.get<bool>()) {
    out += *boolean ? "True" : "False";
  } else if (value.is<None>()) {
    out += "None";
  } else if (value.is<Undefined>()) {
    out += "Undefined";
  } else if (const List* list = value.list()) {
    out += list->tuple ? '(' : '[';
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(out, list->items[i]);
    }
    if (list->tuple && list->items.size() == 1) out += ',';
    out += list->tuple ? ')' : ']';
  } else if (const Dict* dict = value.dict()) {
    out += '{';
    for (std::size_t i = 0; i < dict->members.size(); ++i) {
      if (i > 0) out += ", ";
      append_quoted(out, dict->members[i].first);
      out += ": ";
      append_repr(out, dict->members[i].second);
    }
    out += '}';
  } else {
    fail("a " + std::string(type_name(value)) + " cannot be printed");
  }
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value);
  return std::move(writer.out);
}

}  // namespace farmesh::text::jinja
