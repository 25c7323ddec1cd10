// A parsed template. Immutable; everything that could be refused has been.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/builtins.hpp"
#include "text/jinja/value.hpp"

namespace farmesh::text::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<const Expr>;  // null where a part is optional and absent

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct Attribute {
  ExprPtr object;
  std::string name;
};
struct Item {
  ExprPtr object, index;
};
struct Slice {
  ExprPtr object, start, stop, step;  // the last three optional
};
struct ListDisplay {
  std::vector<ExprPtr> items;
  bool tuple = false;
};
struct DictDisplay {
  std::vector<std::pair<ExprPtr, ExprPtr>> members;
};
struct Unary {
  enum class Op { negate, plus, logical_not };
  Op op;
  ExprPtr operand;
};
struct Binary {
  enum class Op {
    add,
    subtract,
    multiply,
    divide,
    floor_divide,
    modulo,
    concat,
    logical_and,
    logical_or
  };
  Op op;
  ExprPtr left, right;
};
struct Compare {
  enum class Op { equal, unequal, less, less_equal, greater, greater_equal, in, not_in };
  ExprPtr first;
  std::vector<std::pair<Op, ExprPtr>> rest;  // a < b < c has two
};
struct Conditional {
  ExprPtr test, then, otherwise;  // the last optional
};
/// A filter, test or method on an object; arguments by parameter, absent ones null.
struct Apply {
  enum class Kind { filter, test, method };
  Kind kind;
  const Builtin* builtin;
  ExprPtr object;
  std::vector<ExprPtr> args;
  bool negated = false;  // of a test
};
/// map, select, reject, selectattr, rejectattr.
struct Sift {
  ExprPtr object;
  std::vector<std::string> path;     // attributes to follow from each item; may be empty
  const Builtin* builtin = nullptr;  // filter of map, test of the others; null: the value itself
  std::vector<ExprPtr> args;
  bool map = false;     // give the values; else the items whose value passes
  bool reject = false;  // the items that do not
};
struct Invoke {
  std::string name;  // a function, or a macro
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

using ExprNode = std::variant<Literal, Name, Attribute, Item, Slice, ListDisplay, DictDisplay,
                              Unary, Binary, Compare, Conditional, Apply, Sift, Invoke>;

struct Expr {
  int line = 0;
  std::size_t depth = 1;  // of the tree below, this included
  ExprNode node;
};

/// Fails when the tree would become too deep to walk by recursion.
ExprPtr make_expr(int line, ExprNode node);

struct Statement;
using Block = std::vector<Statement>;

struct TextOutput {
  std::string text;
};
struct Output {
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Block>> branches;  // if, elif, …; a null test is else
};
struct For {
  std::vector<std::string> targets;  // more than one: each item is unpacked
  ExprPtr iterable;
  ExprPtr filter;  // optional
  Block body, otherwise;
};
struct Set {
  std::vector<std::string> targets;
  ExprPtr value;
};
struct SetAttribute {
  std::string object, name;
  ExprPtr value;
};
struct SetBlock {
  std::string target;
  Block body;
};
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // with their defaults, if any
  Block body;
};
struct DefineMacro {
  std::unique_ptr<const Macro> macro;
};
struct Break {};
struct Continue {};

struct Statement {
  int line = 0;
  std::variant<TextOutput, Output, If, For, Set, SetAttribute, SetBlock, DefineMacro, Break,
               Continue>
      node;
};

}  // namespace farmesh::text::jinja
