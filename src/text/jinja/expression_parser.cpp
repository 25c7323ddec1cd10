#include "text/jinja/expression_parser.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace farmesh::text::jinja {
namespace {

using Kind = Token::Kind;

constexpr std::size_t kMaxNesting = 48;

constexpr std::array<std::string_view, 10> kKeywords = {"and", "else", "if",   "in",    "is",
                                                        "not", "or",   "true", "false", "none"};

// Attributes that Jinja2 would find on Python's own types; as values they mean nothing to a chat.
constexpr std::array<std::string_view, 7> kPythonAttributes = {"items", "keys", "values", "get",
                                                               "copy",  "pop",  "update"};

constexpr std::array<std::string_view, 11> kLoopAttributes = {
    "index",  "index0", "revindex", "revindex0", "first",   "last",
    "length", "depth",  "depth0",   "previtem",  "nextitem"};

bool is_unknown_of_loop(const ExprPtr& object, std::string_view name) {
  const auto* variable = std::get_if<Name>(&object->node);
  return variable != nullptr && variable->name == "loop" &&
         std::find(kLoopAttributes.begin(), kLoopAttributes.end(), name) == kLoopAttributes.end();
}

/// The text of a literal string, or nothing.
std::optional<std::string> literal_text(const ExprPtr& expr) {
  const auto* literal = expr ? std::get_if<Literal>(&expr->node) : nullptr;
  const std::string* text = literal ? literal->value.text() : nullptr;
  return text ? std::optional(*text) : std::nullopt;
}

std::optional<Compare::Op> comparison_op(const Token& token) {
  if (token.kind != Kind::op) return std::nullopt;
  if (token.text == "==") return Compare::Op::equal;
  if (token.text == "!=") return Compare::Op::unequal;
  if (token.text == "<") return Compare::Op::less;
  if (token.text == "<=") return Compare::Op::less_equal;
  if (token.text == ">") return Compare::Op::greater;
  if (token.text == ">=") return Compare::Op::greater_equal;
  return std::nullopt;
}

}  // namespace

struct ExpressionParser::Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

/// One more level of brackets or of a prefix operator.
class ExpressionParser::Deeper {
 public:
  explicit Deeper(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxNesting) parser_.refuse("an expression too deeply nested");
  }
  ~Deeper() { --parser_.nesting_; }

 private:
  ExpressionParser& parser_;
};

const Token& ExpressionParser::peek(std::size_t ahead) const {
  return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
}

Token ExpressionParser::take() {
  Token token = peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::take_name_if(std::string_view name) {
  if (!at_name(name)) return false;
  take();
  return true;
}

bool ExpressionParser::take_op_if(std::string_view op) {
  if (!at_op(op)) return false;
  take();
  return true;
}

void ExpressionParser::expect_op(std::string_view op) {
  if (!take_op_if(op)) refuse("\"" + peek().text + "\" where " + std::string(op) + " belongs");
}

std::string ExpressionParser::expect_identifier() {
  if (peek().kind != Kind::name) refuse("\"" + peek().text + "\" where a name belongs");
  if (std::find(kKeywords.begin(), kKeywords.end(), peek().text) != kKeywords.end()) {
    refuse("the keyword " + peek().text + " as a name");
  }
  return take().text;
}

ExprPtr ExpressionParser::tuple_of(ExprPtr (ExpressionParser::*item)()) {
  const int line = peek().line;
  ExprPtr first = (this->*item)();
  if (!at_op(",")) return first;
  ListDisplay display;
  display.tuple = true;
  display.items.push_back(std::move(first));
  while (take_op_if(",")) {
    const bool ends = peek().kind == Kind::close_block || peek().kind == Kind::close_output ||
                      at_op(")") || at_op("]");
    if (ends) break;
    display.items.push_back((this->*item)());
  }
  return make_expr(line, std::move(display));
}

ExprPtr ExpressionParser::tuple() { return tuple_of(&ExpressionParser::expression); }

ExprPtr ExpressionParser::tuple_without_condition() {
  return tuple_of(&ExpressionParser::disjunction);
}

ExprPtr ExpressionParser::expression() {
  const Deeper deeper(*this);
  const int line = peek().line;
  ExprPtr value = disjunction();
  while (take_name_if("if")) {
    ExprPtr test = disjunction();
    ExprPtr otherwise = take_name_if("else") ? expression() : nullptr;
    value = make_expr(line, Conditional{std::move(test), std::move(value), std::move(otherwise)});
  }
  return value;
}

ExprPtr ExpressionParser::disjunction() {
  const int line = peek().line;
  ExprPtr left = conjunction();
  while (take_name_if("or")) {
    ExprPtr right = conjunction();
    left = make_expr(line, Binary{Binary::Op::logical_or, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr ExpressionParser::conjunction() {
  const int line = peek().line;
  ExprPtr left = negation();
  while (take_name_if("and")) {
    ExprPtr right = negation();
    left = make_expr(line, Binary{Binary::Op::logical_and, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr ExpressionParser::negation() {
  if (!at_name("not")) return comparison();
  const Deeper deeper(*this);
  const int line = take().line;
  return make_expr(line, Unary{Unary::Op::logical_not, negation()});
}

ExprPtr ExpressionParser::comparison() {
  const int line = peek().line;
  Compare compare{sum(), {}};
  while (true) {
    if (const auto op = comparison_op(peek())) {
      take();
      compare.rest.emplace_back(*op, sum());
    } else if (at_name("in")) {
      take();
      compare.rest.emplace_back(Compare::Op::in, sum());
    } else if (at_name("not") && peek(1).is(Kind::name, "in")) {
      take();
      take();
      compare.rest.emplace_back(Compare::Op::not_in, sum());
    } else {
      break;
    }
  }
  if (compare.rest.empty()) return std::move(compare.first);
  return make_expr(line, std::move(compare));
}

ExprPtr ExpressionParser::sum() {
  const int line = peek().line;
  ExprPtr left = concatenation();
  while (at_op("+") || at_op("-")) {
    const auto op = take().text == "+" ? Binary::Op::add : Binary::Op::subtract;
    ExprPtr right = concatenation();
    left = make_expr(line, Binary{op, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr ExpressionParser::concatenation() {
  const int line = peek().line;
  ExprPtr left = product();
  while (take_op_if("~")) {
    ExprPtr right = product();
    left = make_expr(line, Binary{Binary::Op::concat, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr ExpressionParser::product() {
  const int line = peek().line;
  ExprPtr left = unary(true);
  while (true) {
    if (at_op("**")) refuse("the operator **");
    const bool formats = at_op("%") && literal_text(left);
    if (formats) refuse("string formatting by %");
    Binary::Op op;
    if (at_op("*")) {
      op = Binary::Op::multiply;
    } else if (at_op("/")) {
      op = Binary::Op::divide;
    } else if (at_op("//")) {
      op = Binary::Op::floor_divide;
    } else if (at_op("%")) {
      op = Binary::Op::modulo;
    } else {
      return left;
    }
    take();
    ExprPtr right = unary(true);
    left = make_expr(line, Binary{op, std::move(left), std::move(right)});
  }
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  const int line = peek().line;
  ExprPtr value;
  if (at_op("-") || at_op("+")) {
    const Deeper deeper(*this);
    const auto op = take().text == "-" ? Unary::Op::negate : Unary::Op::plus;
    value = make_expr(line, Unary{op, unary(false)});
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filters_and_tests(std::move(value)) : std::move(value);
}

ExprPtr ExpressionParser::primary() {
  const Token& token = peek();
  switch (token.kind) {
    case Kind::name: return name_or_constant();
    case Kind::string: {
      const int line = token.line;
      std::string text;
      while (peek().kind == Kind::string) text += take().text;
      return make_expr(line, Literal{Value(std::move(text))});
    }
    case Kind::integer: {
      std::int64_t value = 0;
      const char* end = token.text.data() + token.text.size();
      const auto [stop, error] = std::from_chars(token.text.data(), end, value);
      if (error != std::errc() || stop != end) refuse("the number " + token.text);
      return make_expr(take().line, Literal{Value(value)});
    }
    case Kind::real: {
      double value = 0;
      const char* end = token.text.data() + token.text.size();
      const auto [stop, error] = std::from_chars(token.text.data(), end, value);
      if (error != std::errc() || stop != end) refuse("the number " + token.text);
      return make_expr(take().line, Literal{Value(value)});
    }
    case Kind::op: return bracketed();
    default: refuse("an expression that ends too early");
  }
}

ExprPtr ExpressionParser::name_or_constant() {
  const Token token = peek();
  if (token.text == "true" || token.text == "True") {
    return make_expr(take().line, Literal{Value(true)});
  }
  if (token.text == "false" || token.text == "False") {
    return make_expr(take().line, Literal{Value(false)});
  }
  if (token.text == "none" || token.text == "None") {
    return make_expr(take().line, Literal{Value(None{})});
  }
  std::string name = expect_identifier();
  if (name == "caller" || name == "varargs" || name == "kwargs" || name == "self") {
    fail("the variable " + name, token.line);
  }
  return make_expr(token.line, Name{std::move(name)});
}

ExprPtr ExpressionParser::bracketed() {
  const Deeper deeper(*this);
  const int line = peek().line;
  if (at_op("{")) return dict_display();
  if (take_op_if("(")) {
    if (take_op_if(")")) return make_expr(line, ListDisplay{{}, true});
    ExprPtr inner = tuple();
    expect_op(")");
    return inner;
  }
  if (!take_op_if("[")) refuse("\"" + peek().text + "\" where a value belongs");
  ListDisplay display;
  while (!take_op_if("]")) {
    display.items.push_back(expression());
    if (!at_op("]")) expect_op(",");
  }
  return make_expr(line, std::move(display));
}

ExprPtr ExpressionParser::dict_display() {
  const int line = take().line;
  DictDisplay display;
  while (!take_op_if("}")) {
    ExprPtr key = expression();
    expect_op(":");
    display.members.emplace_back(std::move(key), expression());
    if (!at_op("}")) expect_op(",");
  }
  return make_expr(line, std::move(display));
}

ExprPtr ExpressionParser::postfix(ExprPtr object) {
  while (true) {
    const int line = peek().line;
    if (take_op_if(".")) {
      if (peek().kind == Kind::integer) {
        ExprPtr index = primary();
        object = make_expr(line, Item{std::move(object), std::move(index)});
        continue;
      }
      if (peek().kind != Kind::name) refuse("\"" + peek().text + "\" after a dot");
      const std::string name = take().text;
      if (at_op("(")) {
        object = method(std::move(object), name, line);
        continue;
      }
      if (std::find(kPythonAttributes.begin(), kPythonAttributes.end(), name) !=
          kPythonAttributes.end()) {
        fail("the attribute " + name + " without a call", line);
      }
      if (is_unknown_of_loop(object, name)) fail("loop." + name, line);
      object = make_expr(line, Attribute{std::move(object), name});
    } else if (at_op("[")) {
      object = subscript(std::move(object));
    } else if (at_op("(")) {
      object = call(*object);
    } else {
      return object;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr object) {
  const Deeper deeper(*this);
  const int line = take().line;
  ExprPtr parts[3];
  int colons = 0;
  while (!at_op("]")) {
    if (at_op(":")) {
      if (++colons > 2) refuse("a slice of more than three parts");
      take();
    } else if (parts[colons]) {
      refuse("a subscript of several parts");
    } else {
      parts[colons] = expression();
    }
  }
  take();
  if (colons > 0) {
    return make_expr(line, Slice{std::move(object), std::move(parts[0]), std::move(parts[1]),
                                 std::move(parts[2])});
  }
  if (!parts[0]) fail("an empty subscript", line);
  return make_expr(line, Item{std::move(object), std::move(parts[0])});
}

ExprPtr ExpressionParser::method(ExprPtr object, const std::string& name, int line) {
  const Builtin* builtin = find_method(name);
  if (builtin == nullptr) fail("the method " + name, line);
  std::vector<ExprPtr> args = bind(*builtin, arguments());
  return make_expr(line, Apply{Apply::Kind::method, builtin, std::move(object), std::move(args)});
}

ExprPtr ExpressionParser::call(const Expr& callee) {
  const auto* name = std::get_if<Name>(&callee.node);
  if (name == nullptr) refuse("a call of something that is no name");
  const std::string function = name->name;
  Arguments args = arguments();
  called_.emplace_back(function, callee.line);
  return make_expr(callee.line,
                   Invoke{function, std::move(args.positional), std::move(args.named)});
}

ExprPtr ExpressionParser::filters_and_tests(ExprPtr object) {
  while (true) {
    if (at_op("|")) {
      object = filter(std::move(object));
    } else if (at_name("is")) {
      object = test(std::move(object));
    } else if (at_op("(")) {
      object = call(*object);
    } else {
      return object;
    }
  }
}

ExpressionParser::Arguments ExpressionParser::arguments() {
  const Deeper deeper(*this);
  Arguments args;
  expect_op("(");
  while (!take_op_if(")")) {
    if (at_op("*") || at_op("**")) refuse("an argument list by *");
    if (peek().kind == Kind::name && peek(1).is(Kind::op, "=")) {
      std::string name = expect_identifier();
      take();
      args.named.emplace_back(std::move(name), expression());
    } else if (!args.named.empty()) {
      refuse("an argument without a name after one with a name");
    } else {
      args.positional.push_back(expression());
    }
    if (!at_op(")")) expect_op(",");
  }
  return args;
}

std::vector<ExprPtr> ExpressionParser::bind(const Builtin& builtin, Arguments args) const {
  const std::string of_builtin = " of " + std::string(builtin.name);
  if (args.positional.size() > builtin.parameters.size()) refuse("too many arguments" + of_builtin);
  std::vector<ExprPtr> bound = std::move(args.positional);
  bound.resize(builtin.parameters.size());
  for (auto& [parameter, value] : args.named) {
    const auto found = std::find(builtin.parameters.begin(), builtin.parameters.end(), parameter);
    if (found == builtin.parameters.end()) refuse("the argument " + parameter + of_builtin);
    ExprPtr& slot = bound[static_cast<std::size_t>(found - builtin.parameters.begin())];
    if (slot) refuse("a second argument " + parameter + of_builtin);
    slot = std::move(value);
  }
  for (std::size_t i = 0; i < builtin.required; ++i) {
    if (!bound[i]) refuse("no argument " + std::string(builtin.parameters[i]) + of_builtin);
  }
  return bound;
}

ExprPtr ExpressionParser::filter(ExprPtr object) {
  const int line = take().line;
  const std::string name = expect_identifier();
  Arguments args = at_op("(") ? arguments() : Arguments{};
  if (name == "map" || name == "select" || name == "reject" || name == "selectattr" ||
      name == "rejectattr") {
    return sift(name, std::move(object), std::move(args));
  }
  const Builtin* builtin = find_filter(name);
  if (builtin == nullptr) fail("the filter " + name, line);
  std::vector<ExprPtr> bound = bind(*builtin, std::move(args));
  return make_expr(line, Apply{Apply::Kind::filter, builtin, std::move(object), std::move(bound)});
}

/// These name an attribute, filter or test by a string, which must be a literal to be checked.
ExprPtr ExpressionParser::sift(const std::string& name, ExprPtr object, Arguments args) {
  const int line = peek().line;
  Sift sift;
  sift.object = std::move(object);
  sift.map = name == "map";
  sift.reject = name.starts_with("reject");
  std::vector<ExprPtr>& given = args.positional;
  const auto take_text = [&](const char* what) {
    const std::optional<std::string> text =
        given.empty() ? std::nullopt : literal_text(given.front());
    if (!text) fail(name + " without the literal name of " + what, line);
    given.erase(given.begin());
    return *text;
  };
  std::string path;
  if (sift.map && args.named.size() == 1 && args.named[0].first == "attribute" && given.empty()) {
    const std::optional<std::string> text = literal_text(args.named[0].second);
    if (!text) fail("map without the literal name of an attribute", line);
    path = *text;
  } else if (!args.named.empty()) {
    fail("the argument " + args.named[0].first + " of " + name, line);
  } else if (name.ends_with("attr")) {
    path = take_text("an attribute");
  }
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t dot = std::min(path.find('.', begin), path.size());
    sift.path.push_back(path.substr(begin, dot - begin));
    begin = dot + 1;
  }
  if (sift.map && sift.path.empty()) {
    const std::string used = take_text("a filter");
    sift.builtin = find_filter(used);
    if (sift.builtin == nullptr) fail("the filter " + used, line);
  } else if (!given.empty()) {
    const std::string used = take_text("a test");
    sift.builtin = find_test(used);
    if (sift.builtin == nullptr) fail("the test " + used, line);
  }
  if (sift.builtin != nullptr) {
    sift.args = bind(*sift.builtin, Arguments{std::move(given), {}});
  }
  return make_expr(line, std::move(sift));
}

ExprPtr ExpressionParser::test(ExprPtr object) {
  const int line = take().line;
  const bool negated = take_name_if("not");
  if (peek().kind != Kind::name) refuse("\"" + peek().text + "\" where a test belongs");
  const std::string name = take().text;
  const Builtin* builtin = find_test(name);
  if (builtin == nullptr) fail("the test " + name, line);
  Arguments args;
  const bool value_follows =
      peek().kind == Kind::string || peek().kind == Kind::integer || peek().kind == Kind::real ||
      at_op("[") || at_op("{") ||
      (peek().kind == Kind::name && !at_name("else") && !at_name("or") && !at_name("and") &&
       !at_name("is") && !at_name("if") && !at_name("not") && !at_name("in"));
  if (at_op("(")) {
    args = arguments();
  } else if (value_follows) {
    args.positional.push_back(postfix(primary()));
  } else if (at_name("is")) {
    refuse("a test of a test");
  }
  std::vector<ExprPtr> bound = bind(*builtin, std::move(args));
  return make_expr(line,
                   Apply{Apply::Kind::test, builtin, std::move(object), std::move(bound), negated});
}

}  // namespace farmesh::text::jinja
