#include "text/jinja/interpreter.hpp"

#include <algorithm>
#include <limits>
#include <string_view>

#include "text/jinja/operators.hpp"

namespace farmesh::text::jinja {
namespace {

constexpr std::size_t kMaxRecursion = 600;  // of statements, expressions and macros together

struct Scope {
  Variables variables;

  const Value* find(std::string_view name) const {
    for (const auto& [known, value] : variables) {
      if (known == name) return &value;
    }
    return nullptr;
  }
  void set(std::string_view name, Value value) {
    for (auto& [known, held] : variables) {
      if (known != name) continue;
      held = std::move(value);
      return;
    }
    variables.emplace_back(name, std::move(value));
  }
};

enum class Flow { next, leave_loop, next_pass };

class Interpreter {
 public:
  Interpreter(Variables variables, std::time_t now, std::size_t max_bytes)
      : scopes_(1, Scope{std::move(variables)}), now_(now), max_bytes_(max_bytes) {}

  std::string run(const Block& block) {
    execute(block);
    return std::move(out_);
  }

  /// Where it stopped, after a failure.
  int line() const { return line_; }

 private:
  class Deeper {
   public:
    explicit Deeper(std::size_t& depth) : depth_(depth) {
      if (++depth_ > kMaxRecursion) fail("recursion too deep");
    }
    ~Deeper() { --depth_; }

   private:
    std::size_t& depth_;
  };

  Flow execute(const Block& block) {
    const Deeper deeper(depth_);
    for (const Statement& statement : block) {
      meter_.charge(1);
      line_ = statement.line;
      const Flow flow = std::visit([this](const auto& node) { return run(node); }, statement.node);
      if (flow != Flow::next) return flow;
    }
    return Flow::next;
  }

  void print(std::string_view text) {
    if (text.size() > max_bytes_ - out_.size()) fail("the text grows too long");
    out_ += text;
  }

  Flow run(const TextOutput& node) {
    print(node.text);
    return Flow::next;
  }

  Flow run(const Output& node) {
    const Value value = evaluate(node.value);
    if (const std::string* text = value.text()) {
      print(*text);
    } else {
      meter_.charge_bytes(extent_of(value).weight);
      print(to_text(value));
    }
    return Flow::next;
  }

  Flow run(const If& node) {
    for (const auto& [test, body] : node.branches) {
      if (!test || truthy(evaluate(test))) return execute(body);
    }
    return Flow::next;
  }

  Flow run(const For& node) {
    std::vector<Value> items = items_of(meter_, evaluate(node.iterable));
    if (node.filter) items = filtered(node, std::move(items));
    ++loop_depth_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      meter_.charge(1);
      auto loop = std::make_shared<Loop>();
      loop->index0 = i;
      loop->length = items.size();
      loop->depth = loop_depth_;
      if (i > 0) loop->previous = items[i - 1];
      if (i + 1 < items.size()) loop->next = items[i + 1];
      scopes_.emplace_back();
      assign(node.targets, items[i]);
      scopes_.back().set("loop", Value(LoopPtr(std::move(loop))));
      const Flow flow = execute(node.body);
      scopes_.pop_back();
      if (flow == Flow::leave_loop) break;
    }
    --loop_depth_;
    if (!items.empty()) return Flow::next;
    scopes_.emplace_back();
    const Flow flow = execute(node.otherwise);
    scopes_.pop_back();
    return flow;
  }

  std::vector<Value> filtered(const For& node, std::vector<Value> items) {
    std::vector<Value> kept;
    for (Value& item : items) {
      meter_.charge(1);
      scopes_.emplace_back();
      assign(node.targets, item);
      if (truthy(evaluate(node.filter))) kept.push_back(std::move(item));
      scopes_.pop_back();
    }
    return kept;
  }

  Flow run(const Set& node) {
    assign(node.targets, evaluate(node.value));
    return Flow::next;
  }

  Flow run(const SetAttribute& node) {
    Value value = evaluate(node.value);
    const Value object = find(node.object);
    const NamespacePtr* space = object.get<NamespacePtr>();
    if (space == nullptr) wrong_type("setting an attribute", object);
    require_plain(value);
    (*space)->attributes.set(node.name, std::move(value));
    return Flow::next;
  }

  Flow run(const SetBlock& node) {
    Value text(captured(node.body));  // which moves the scopes about
    scopes_.back().set(node.target, std::move(text));
    return Flow::next;
  }

  Flow run(const DefineMacro& node) {
    scopes_.back().set(node.macro->name, Value(node.macro.get()));
    return Flow::next;
  }

  Flow run(const Break&) { return Flow::leave_loop; }
  Flow run(const Continue&) { return Flow::next_pass; }

  /// What a block prints, in a scope of its own.
  std::string captured(const Block& body) {
    std::string outer = std::exchange(out_, {});
    scopes_.emplace_back();
    execute(body);
    scopes_.pop_back();
    meter_.charge_bytes(out_.size());
    return std::exchange(out_, std::move(outer));
  }

  void assign(const std::vector<std::string>& targets, const Value& value) {
    if (targets.size() == 1) return scopes_.back().set(targets.front(), value);
    const std::vector<Value> parts = items_of(meter_, value);
    if (parts.size() != targets.size()) fail("unpacking into a different number of names");
    for (std::size_t i = 0; i < parts.size(); ++i) scopes_.back().set(targets[i], parts[i]);
  }

  Value find(std::string_view name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      meter_.charge(scope->variables.size() / 16);
      if (const Value* value = scope->find(name)) return *value;
    }
    const Function* function = find_function(name);
    return function == nullptr ? Value() : Value(function);
  }

  Value evaluate(const ExprPtr& expr) {
    const Deeper deeper(depth_);
    meter_.charge(1);
    const int outer = std::exchange(line_, expr->line);
    Value value = std::visit([this](const auto& node) { return eval(node); }, expr->node);
    line_ = outer;
    return value;
  }

  Value eval(const Literal& node) { return node.value; }
  Value eval(const Name& node) { return find(node.name); }
  Value eval(const Attribute& node) { return attribute_of(evaluate(node.object), node.name); }

  Value eval(const Item& node) {
    const Value object = evaluate(node.object);
    return item_of(meter_, object, evaluate(node.index));
  }

  Value eval(const Slice& node) {
    const Value object = evaluate(node.object);
    const auto bound = [&](const ExprPtr& part) -> std::optional<std::int64_t> {
      if (!part) return std::nullopt;
      return Args({evaluate(part)}).integer(0);
    };
    const auto start = bound(node.start), stop = bound(node.stop), step = bound(node.step);
    return slice_of(meter_, object, start, stop, step);
  }

  Value eval(const ListDisplay& node) {
    std::vector<Value> items;
    for (const ExprPtr& item : node.items) items.push_back(evaluate(item));
    return make_list(std::move(items), node.tuple);
  }

  Value eval(const DictDisplay& node) {
    Dict dict;
    for (const auto& [key, held] : node.members) {
      const Value name = evaluate(key);
      if (name.text() == nullptr) wrong_type("a key", name);
      dict.set(*name.text(), evaluate(held));
    }
    return make_dict(std::move(dict));
  }

  Value eval(const Unary& node) { return apply_unary(node.op, evaluate(node.operand)); }

  Value eval(const Binary& node) {
    Value left = evaluate(node.left);
    if (node.op == Binary::Op::logical_and) return truthy(left) ? evaluate(node.right) : left;
    if (node.op == Binary::Op::logical_or) return truthy(left) ? left : evaluate(node.right);
    return apply_binary(meter_, node.op, left, evaluate(node.right));
  }

  Value eval(const Compare& node) {
    Value left = evaluate(node.first);
    for (const auto& [op, operand] : node.rest) {
      Value right = evaluate(operand);
      if (!apply_comparison(meter_, op, left, right)) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  Value eval(const Conditional& node) {
    if (truthy(evaluate(node.test))) return evaluate(node.then);
    return node.otherwise ? evaluate(node.otherwise) : Value();
  }

  Args arguments(const std::vector<ExprPtr>& args) {
    std::vector<std::optional<Value>> values(args.size());
    for (std::size_t i = 0; i < args.size(); ++i) {
      if (args[i]) values[i] = evaluate(args[i]);
    }
    return Args(std::move(values));
  }

  Value eval(const Apply& node) {
    const Value object = evaluate(node.object);
    const Args args = arguments(node.args);
    const Value result = node.builtin->run(meter_, object, args);
    return node.negated ? Value(!truthy(result)) : result;
  }

  Value eval(const Sift& node) {
    const std::vector<Value> items = items_of(meter_, evaluate(node.object));
    const Args args = arguments(node.args);
    std::vector<Value> result;
    for (const Value& item : items) {
      meter_.charge(1);
      Value value = item;
      for (const std::string& name : node.path) value = attribute_of(value, name);
      if (node.builtin != nullptr) value = node.builtin->run(meter_, value, args);
      if (node.map) {
        result.push_back(std::move(value));
      } else if (truthy(value) != node.reject) {
        result.push_back(item);
      }
    }
    return make_list(std::move(result));
  }

  Value eval(const Invoke& node) {
    const Value callee = find(node.name);
    Call call;
    for (const ExprPtr& arg : node.positional) call.positional.push_back(evaluate(arg));
    for (const auto& [name, arg] : node.named) call.named.emplace_back(name, evaluate(arg));
    if (const auto* function = callee.get<const Function*>()) {
      return (*function)->run(meter_, now_, call);
    }
    const auto* macro = callee.get<const Macro*>();
    if (macro == nullptr) wrong_type("a call of \"" + node.name + "\"", callee);
    return invoke(**macro, std::move(call));
  }

  /// A macro sees its arguments and the template's own variables, not those of its caller.
  Value invoke(const Macro& macro, Call call) {
    const Deeper deeper(depth_);
    Scope locals;
    const auto parameter = [&](std::string_view name) {
      return std::any_of(macro.parameters.begin(), macro.parameters.end(),
                         [&](const auto& known) { return known.first == name; });
    };
    if (call.positional.size() > macro.parameters.size()) fail("too many arguments of a macro");
    for (std::size_t i = 0; i < call.positional.size(); ++i) {
      locals.set(macro.parameters[i].first, std::move(call.positional[i]));
    }
    for (auto& [name, value] : call.named) {
      if (!parameter(name)) fail("the argument " + name + " of macro " + macro.name);
      if (locals.find(name) != nullptr) fail("the argument " + name + ", given twice");
      locals.set(name, std::move(value));
    }
    std::vector<Scope> outer(std::make_move_iterator(scopes_.begin() + 1),
                             std::make_move_iterator(scopes_.end()));
    scopes_.resize(1);
    scopes_.push_back(std::move(locals));
    for (const auto& [name, fallback] : macro.parameters) {
      if (scopes_.back().find(name) != nullptr) continue;
      Value value = fallback ? evaluate(fallback) : Value();
      scopes_.back().set(name, std::move(value));
    }
    std::string text = captured(macro.body);
    scopes_.resize(1);
    scopes_.insert(scopes_.end(), std::make_move_iterator(outer.begin()),
                   std::make_move_iterator(outer.end()));
    return Value(std::move(text));
  }

  std::vector<Scope> scopes_;  // the template's own first, the innermost last
  std::string out_;
  Meter meter_;
  std::time_t now_;
  std::size_t max_bytes_;
  std::size_t depth_ = 0;
  std::size_t loop_depth_ = 0;
  int line_ = 0;  // being executed
};

}  // namespace

std::string render(const Block& block, Variables variables, std::time_t now,
                   std::size_t max_bytes) {
  Interpreter interpreter(std::move(variables), now, max_bytes);
  try {
    return interpreter.run(block);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = interpreter.line();
    throw;
  }
}

}  // namespace farmesh::text::jinja
