#include "text/jinja/parser.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "text/jinja/expression_parser.hpp"
#include "text/jinja/failure.hpp"

namespace farmesh::text::jinja {
namespace {

using Kind = Token::Kind;

constexpr std::size_t kMaxBlockDepth = 32;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : in_(std::move(tokens)) {}

  Block run() {
    Block block = statements({});
    for (const auto& [name, line] : in_.called()) {
      if (macros_.count(name) == 0 && find_function(name) == nullptr) {
        fail("the function " + name, line);
      }
    }
    return block;
  }

 private:
  /// Reads up to a tag that begins with one of `ends`, whose name is left to read; with none,
  /// to the end of the template.
  Block statements(const std::vector<std::string_view>& ends) {
    if (++depth_ > kMaxBlockDepth) in_.refuse("blocks nested too deeply");
    Block block;
    while (true) {
      const int line = in_.peek().line;
      if (in_.peek().kind == Kind::end) {
        if (!ends.empty()) in_.refuse("a block without its " + std::string(ends.back()));
        break;
      }
      const Token token = in_.take();
      if (token.kind == Kind::text) {
        block.push_back({line, TextOutput{token.text}});
      } else if (token.kind == Kind::open_output) {
        block.push_back({line, Output{in_.tuple()}});
        close(Kind::close_output);
      } else {
        const auto ends_here = [&](std::string_view name) { return in_.at_name(name); };
        if (std::any_of(ends.begin(), ends.end(), ends_here)) break;
        statement(block, line);
      }
    }
    --depth_;
    return block;
  }

  void close(Kind kind) {
    if (in_.peek().kind != kind) in_.refuse("\"" + in_.peek().text + "\" where the tag should end");
    in_.take();
  }

  void end_tag(std::string_view name) {
    if (!in_.take_name_if(name)) in_.refuse("a block without its " + std::string(name));
    close(Kind::close_block);
  }

  void statement(Block& block, int line) {
    if (in_.peek().kind != Kind::name) in_.refuse("a block without a name");
    const std::string name = in_.take().text;
    if (name == "if") {
      block.push_back({line, if_statement()});
    } else if (name == "for") {
      block.push_back({line, for_statement()});
    } else if (name == "set") {
      set_statement(block, line);
    } else if (name == "macro") {
      block.push_back({line, macro(line)});
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(name + " outside a loop", line);
      close(Kind::close_block);
      if (name == "break") {
        block.push_back({line, Break{}});
      } else {
        block.push_back({line, Continue{}});
      }
    } else if (name == "generation") {
      // Marks what the assistant says, for training; it prints its body.
      close(Kind::close_block);
      for (Statement& inner : statements({"endgeneration"})) block.push_back(std::move(inner));
      end_tag("endgeneration");
    } else {
      fail("the statement " + name, line);
    }
  }

  If if_statement() {
    If result;
    ExprPtr test = in_.tuple();
    while (true) {
      close(Kind::close_block);
      const bool last = test == nullptr;
      Block body = last ? statements({"endif"}) : statements({"elif", "else", "endif"});
      result.branches.emplace_back(std::move(test), std::move(body));
      if (in_.take_name_if("elif")) {
        test = in_.tuple();
      } else if (in_.take_name_if("else")) {
        test = nullptr;
      } else {
        break;
      }
    }
    end_tag("endif");
    return result;
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names;
    const bool bracketed = in_.take_op_if("(");
    do {
      if (!names.empty() && in_.peek().kind != Kind::name) break;
      names.push_back(in_.expect_identifier());
    } while (in_.take_op_if(","));
    if (bracketed) in_.expect_op(")");
    return names;
  }

  For for_statement() {
    For result;
    result.targets = targets();
    if (!in_.take_name_if("in")) in_.refuse("a for without its in");
    result.iterable = in_.tuple_without_condition();
    if (in_.take_name_if("if")) result.filter = in_.expression();
    if (in_.at_name("recursive")) in_.refuse("a recursive loop");
    close(Kind::close_block);
    ++loops_;
    result.body = statements({"else", "endfor"});
    --loops_;
    if (in_.take_name_if("else")) {
      close(Kind::close_block);
      result.otherwise = statements({"endfor"});
    }
    end_tag("endfor");
    return result;
  }

  void set_statement(Block& block, int line) {
    if (in_.peek(1).is(Kind::op, ".")) {
      SetAttribute set;
      set.object = in_.expect_identifier();
      in_.take();
      set.name = in_.expect_identifier();
      in_.expect_op("=");
      set.value = in_.tuple();
      close(Kind::close_block);
      block.push_back({line, std::move(set)});
      return;
    }
    std::vector<std::string> names = targets();
    if (in_.take_op_if("=")) {
      Set set{std::move(names), in_.tuple()};
      close(Kind::close_block);
      block.push_back({line, std::move(set)});
      return;
    }
    if (names.size() != 1 || in_.peek().kind != Kind::close_block) {
      in_.refuse("a set without its =");
    }
    close(Kind::close_block);
    const std::size_t loops = std::exchange(loops_, 0);
    SetBlock set{names.front(), statements({"endset"})};
    loops_ = loops;
    end_tag("endset");
    block.push_back({line, std::move(set)});
  }

  DefineMacro macro(int line) {
    // A macro sees the template's own variables; one inside a loop would see the loop's too.
    if (loops_ > 0 || inside_macro_) fail("a macro inside a loop or macro", line);
    inside_macro_ = true;
    auto macro = std::make_unique<Macro>();
    macro->name = in_.expect_identifier();
    in_.expect_op("(");
    while (!in_.take_op_if(")")) {
      std::string parameter = in_.expect_identifier();
      ExprPtr fallback = in_.take_op_if("=") ? in_.expression() : nullptr;
      macro->parameters.emplace_back(std::move(parameter), std::move(fallback));
      if (!in_.at_op(")")) in_.expect_op(",");
    }
    close(Kind::close_block);
    macro->body = statements({"endmacro"});
    end_tag("endmacro");
    inside_macro_ = false;
    macros_.insert(macro->name);
    return DefineMacro{std::move(macro)};
  }

  ExpressionParser in_;
  std::set<std::string, std::less<>> macros_;
  std::size_t depth_ = 0;
  std::size_t loops_ = 0;  // open around this place, in the same macro or set block
  bool inside_macro_ = false;
};

}  // namespace

Block parse_template(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace farmesh::text::jinja
