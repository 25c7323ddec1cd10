// Jinja2's expressions, by recursive descent, one function a level of precedence.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.hpp"
#include "text/jinja/lexer.hpp"

namespace farmesh::text::jinja {

/// Reads tokens from a shared position; parser.cpp builds statements on it. Throws Failure.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(std::size_t ahead = 0) const;
  Token take();
  bool at_name(std::string_view name) const { return peek().is(Token::Kind::name, name); }
  bool at_op(std::string_view op) const { return peek().is(Token::Kind::op, op); }
  bool take_name_if(std::string_view name);
  bool take_op_if(std::string_view op);
  void expect_op(std::string_view op);
  std::string expect_identifier();
  [[noreturn]] void refuse(const std::string& what) const { fail(what, peek().line); }

  /// With `x if c else y`.
  ExprPtr expression();
  /// Without it, as in the iterable of a for statement; "a, b" gives a tuple.
  ExprPtr tuple_without_condition();
  /// With it; "a, b" gives a tuple.
  ExprPtr tuple();

  /// Names that were called like functions, with the line of the first call.
  const std::vector<std::pair<std::string, int>>& called() const { return called_; }

 private:
  struct Arguments;
  class Deeper;

  ExprPtr tuple_of(ExprPtr (ExpressionParser::*item)());
  ExprPtr disjunction();
  ExprPtr conjunction();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr name_or_constant();
  ExprPtr bracketed();
  ExprPtr dict_display();
  ExprPtr postfix(ExprPtr object);
  ExprPtr subscript(ExprPtr object);
  ExprPtr method(ExprPtr object, const std::string& name, int line);
  ExprPtr call(const Expr& callee);
  ExprPtr filters_and_tests(ExprPtr object);
  ExprPtr filter(ExprPtr object);
  ExprPtr sift(const std::string& name, ExprPtr object, Arguments args);
  ExprPtr test(ExprPtr object);

  Arguments arguments();
  std::vector<ExprPtr> bind(const Builtin& builtin, Arguments args) const;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t nesting_ = 0;
  std::vector<std::pair<std::string, int>> called_;
};

}  // namespace farmesh::text::jinja
