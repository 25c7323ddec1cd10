#include "text/jinja/ast.hpp"

#include <algorithm>

namespace farmesh::text::jinja {
namespace {

constexpr std::size_t kMaxDepth = 160;  // evaluating an expression recurses as deep as it is

std::size_t depth_of(const ExprPtr& expr) { return expr ? expr->depth : 0; }

template <class List>
std::size_t depth_of_all(const List& list) {
  std::size_t depth = 0;
  for (const ExprPtr& expr : list) depth = std::max(depth, depth_of(expr));
  return depth;
}

template <class Pairs>
std::size_t depth_of_values(const Pairs& pairs) {
  std::size_t depth = 0;
  for (const auto& pair : pairs) depth = std::max(depth, depth_of(pair.second));
  return depth;
}

struct DeepestChild {
  std::size_t operator()(const Literal&) const { return 0; }
  std::size_t operator()(const Name&) const { return 0; }
  std::size_t operator()(const Attribute& e) const { return depth_of(e.object); }
  std::size_t operator()(const Item& e) const {
    return std::max(depth_of(e.object), depth_of(e.index));
  }
  std::size_t operator()(const Slice& e) const {
    return std::max({depth_of(e.object), depth_of(e.start), depth_of(e.stop), depth_of(e.step)});
  }
  std::size_t operator()(const ListDisplay& e) const { return depth_of_all(e.items); }
  std::size_t operator()(const DictDisplay& e) const {
    std::size_t depth = depth_of_values(e.members);
    for (const auto& member : e.members) depth = std::max(depth, depth_of(member.first));
    return depth;
  }
  std::size_t operator()(const Unary& e) const { return depth_of(e.operand); }
  std::size_t operator()(const Binary& e) const {
    return std::max(depth_of(e.left), depth_of(e.right));
  }
  std::size_t operator()(const Compare& e) const {
    return std::max(depth_of(e.first), depth_of_values(e.rest));
  }
  std::size_t operator()(const Conditional& e) const {
    return std::max({depth_of(e.test), depth_of(e.then), depth_of(e.otherwise)});
  }
  std::size_t operator()(const Apply& e) const {
    return std::max(depth_of(e.object), depth_of_all(e.args));
  }
  std::size_t operator()(const Sift& e) const {
    return std::max(depth_of(e.object), depth_of_all(e.args));
  }
  std::size_t operator()(const Invoke& e) const {
    return std::max(depth_of_all(e.positional), depth_of_values(e.named));
  }
};

}  // namespace

ExprPtr make_expr(int line, ExprNode node) {
  auto expr = std::make_unique<Expr>();
  expr->line = line;
  expr->depth = 1 + std::visit(DeepestChild{}, node);
  if (expr->depth > kMaxDepth) fail("an expression too deeply nested", line);
  expr->node = std::move(node);
  return expr;
}

}  // namespace farmesh::text::jinja
