// What a template's expressions are worth: Python's plain values, as Jinja2 shows them.
//
// Values are immutable and shared, but for a namespace's attributes. Containers hold plain
// values only and know how deep they are and how long they would be in print: [x, x] of
// [y, y] of … is small in memory and endless on paper.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace farmesh::text::jinja {

struct Undefined {};
struct None {};
class Value;
struct List;
struct Dict;
struct Namespace;  // what namespace() gives: the one thing a template may change
struct Loop;       // the `loop` of a for statement
struct Macro;      // of the syntax tree
struct Function;   // a builtin

using Text = std::shared_ptr<const std::string>;  // valid UTF-8
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using NamespacePtr = std::shared_ptr<Namespace>;
using LoopPtr = std::shared_ptr<const Loop>;

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, Text, ListPtr, DictPtr,
                            NamespacePtr, LoopPtr, const Macro*, const Function*>;

  Value() = default;  // undefined
  Value(None none) : data_(none) {}
  Value(bool value) : data_(value) {}
  Value(std::int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(Text text) : data_(std::move(text)) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(const char*) = delete;
  Value(ListPtr list) : data_(std::move(list)) {}
  Value(DictPtr dict) : data_(std::move(dict)) {}
  Value(NamespacePtr space) : data_(std::move(space)) {}
  Value(LoopPtr loop) : data_(std::move(loop)) {}
  Value(const Macro* macro) : data_(macro) {}
  Value(const Function* function) : data_(function) {}

  template <class T>
  bool is() const noexcept {
    return std::holds_alternative<T>(data_);
  }
  /// Null when the value is of another kind.
  template <class T>
  const T* get() const noexcept {
    return std::get_if<T>(&data_);
  }
  const std::string* text() const noexcept {
    const Text* held = get<Text>();
    return held == nullptr ? nullptr : held->get();
  }
  const List* list() const noexcept {
    const ListPtr* held = get<ListPtr>();
    return held == nullptr ? nullptr : held->get();
  }
  const Dict* dict() const noexcept {
    const DictPtr* held = get<DictPtr>();
    return held == nullptr ? nullptr : held->get();
  }
  const Data& data() const noexcept { return data_; }

 private:
  Data data_;
};

struct Extent {
  std::uint32_t depth = 0;   // of containers
  std::uint64_t weight = 1;  // values, and bytes of text, as often as they would be printed
};

struct List {
  std::vector<Value> items;
  bool tuple = false;
  Extent extent;
};

struct Dict {
  std::vector<std::pair<std::string, Value>> members;  // in order of insertion
  Extent extent;

  const Value* find(std::string_view key) const noexcept {
    for (const auto& [name, value] : members) {
      if (name == key) return &value;
    }
    return nullptr;
  }
  /// Replaces the value of a key that is there; fails at too many. The extent is make_dict()'s
  /// affair.
  void set(std::string_view key, Value value);
};

struct Namespace {
  Dict attributes;
};

/// A list or tuple. Fails when it is nested too deeply, too long in print or holds what is not
/// plain.
Value make_list(std::vector<Value> items, bool tuple = false);
/// Same bounds.
Value make_dict(Dict dict);
/// Fails when `value` is not plain: a namespace, loop, macro or function.
void require_plain(const Value& value);
Extent extent_of(const Value& value) noexcept;

/// "str", "list", … as Python names the type.
std::string_view type_name(const Value& value) noexcept;

bool truthy(const Value& value) noexcept;
/// Python's ==. Numbers and booleans compare by value.
bool equal(const Value& a, const Value& b) noexcept;
/// Python's <. Fails for kinds that have no order between them.
bool less(const Value& a, const Value& b);

/// Python's str(): what {{ value }} prints. Undefined prints nothing.
std::string to_text(const Value& value);
/// Python's repr(), which containers use for what they hold.
void append_repr(std::string& out, const Value& value);

struct JsonStyle {
  int indent = -1;  // below 0: all on one line
  bool ascii = false;
  bool sort_keys = false;
  std::string between_items = ", ";
  std::string after_key = ": ";
};
/// As Python's json.dumps(). Fails for what has no JSON form.
std::string to_json(const Value& value, const JsonStyle& style);

/// Python's float formatting: shortest text that reads back the same.
std::string float_text(double value);

}  // namespace farmesh::text::jinja
