// The filters, tests, methods and functions that templates may use. A name that is not in these
// tables is refused when the template is parsed.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/failure.hpp"
#include "text/jinja/value.hpp"

namespace farmesh::text::jinja {

/// Bounds the work of one rendering: every step and every byte touched is charged.
class Meter {
 public:
  void charge(std::uint64_t units) {
    work_ += units;
    if (work_ > kMaxWork) fail("the template does too much work");
  }
  /// For reading or making this many bytes of text.
  void charge_bytes(std::uint64_t bytes) { charge(1 + bytes / kBytesPerUnit); }
  /// For making this many new values.
  void charge_items(std::uint64_t items) { charge(items * kUnitsPerItem); }

 private:
  // About a second of work, and at most 256 MiB ever made.
  static constexpr std::uint64_t kMaxWork = 16u << 20;
  static constexpr std::uint64_t kBytesPerUnit = 16;
  static constexpr std::uint64_t kUnitsPerItem = 8;

  std::uint64_t work_ = 0;
};

/// Arguments bound to a builtin's parameters; absent ones take its defaults.
class Args {
 public:
  explicit Args(std::vector<std::optional<Value>> values) : values_(std::move(values)) {}

  const Value* find(std::size_t i) const {
    return i < values_.size() && values_[i] ? &*values_[i] : nullptr;
  }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  /// These three fail when the argument is of another type; None counts as absent.
  std::optional<std::string> text(std::size_t i) const;
  std::optional<std::int64_t> integer(std::size_t i) const;
  bool boolean(std::size_t i, bool fallback) const;

 private:
  std::vector<std::optional<Value>> values_;
};

/// A filter, test or method. `parameters` are those after the object itself.
struct Builtin {
  using Run = Value (*)(Meter& meter, const Value& object, const Args& args);

  std::string_view name;
  std::vector<std::string_view> parameters;
  std::size_t required;
  Run run;  // a test gives true or false
};

/// Null for a name that is not supported.
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_method(std::string_view name);

/// What a global function is called with.
struct Call {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function {
  std::string_view name;
  Value (*run)(Meter& meter, std::time_t now, const Call& call);
};

const Function* find_function(std::string_view name);

/// The items a for statement or a list filter would see: of a list, the characters of a string,
/// the keys of a dict. Fails for what cannot be iterated.
std::vector<Value> items_of(Meter& meter, const Value& value);

/// object.name, as Jinja2 looks it up; undefined when there is none. Fails on undefined.
Value attribute_of(const Value& object, std::string_view name);

/// len(); fails for what has none.
std::int64_t length_of(Meter& meter, const Value& value);

/// `item in container`.
bool contains(Meter& meter, const Value& container, const Value& item);

/// Calls fail() naming the type: "trim of int".
[[noreturn]] void wrong_type(std::string_view what, const Value& value);

/// Every occurrence of `from` (at most `count` of them; below 0: all) as `to`.
std::string replace_all(Meter& meter, std::string_view text, std::string_view from,
                        std::string_view to, std::int64_t count);

/// Python's str.strip() family. Without `chars`: white space.
std::string_view strip(std::string_view text, const std::optional<std::string>& chars, bool left,
                       bool right);

/// Python's str.capitalize().
std::string capitalize(std::string_view text);

/// Position of the current pass of a for statement.
struct Loop {
  std::size_t index0 = 0;
  std::size_t length = 0;
  std::size_t depth = 1;
  Value previous;  // undefined on the first pass
  Value next;      // undefined on the last
};

}  // namespace farmesh::text::jinja
