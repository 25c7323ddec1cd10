#include "gateway/turn.hpp"

#include <algorithm>
#include <utility>

namespace farmesh::gateway {

Turn::Turn(Model& model, const std::vector<TurnInput>& inputs) {
  for (const TurnInput& input : inputs) sequences_.push_back({model.start(input)});
}

Result<std::optional<Turn::Item>> Turn::next() {
  if (error_) return *error_;
  for (std::size_t tried = 0; tried < sequences_.size(); ++tried) {
    const std::size_t index = turn_;
    Sequence& sequence = sequences_[index];
    turn_ = (turn_ + 1) % sequences_.size();
    if (sequence.ended) continue;
    Result<std::optional<Token>> token = sequence.tokens->next();
    if (!token) {
      error_ = token.error();
      cancel();
      return *error_;
    }
    Item item;
    item.index = std::uint32_t(index);
    item.token = *std::move(token);
    if (!item.token) {
      sequence.ended = true;
      item.finish = sequence.tokens->usage().finish;
    }
    return std::optional<Item>(std::move(item));
  }
  return std::optional<Item>();
}

void Turn::cancel() {
  for (const Sequence& sequence : sequences_) sequence.tokens->cancel();
}

std::vector<Usage> Turn::usages() const {
  std::vector<Usage> usages;
  for (const Sequence& sequence : sequences_) usages.push_back(sequence.tokens->usage());
  return usages;
}

Origin Turn::origin() const {
  Origin origin = Origin::mesh;
  for (const Sequence& sequence : sequences_) {
    origin = std::max(origin, sequence.tokens->origin());
  }
  return origin;
}

}  // namespace farmesh::gateway
