#include "client/gated_head.hpp"

#include <utility>

namespace farmesh::client {

GatedHead::GatedHead(wire::Head& head, std::function<bool()> is_open)
    : head_(head), is_open_(std::move(is_open)) {}

void GatedHead::embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) {
  if (waiting_.empty() && is_open_()) {
    head_.embed(std::move(ids), std::move(done));
  } else {
    waiting_.push_back({std::move(ids), std::move(done)});
  }
}

void GatedHead::logits(Payload hidden, std::uint32_t rows,
                       std::function<void(Result<std::vector<float>>)> done) {
  head_.logits(std::move(hidden), rows, std::move(done));
}

void GatedHead::poke() {
  if (!is_open_()) return;
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    head_.embed(std::move(waiting.ids), std::move(waiting.done));
  }
}

}  // namespace farmesh::client
