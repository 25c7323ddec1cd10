#include "gateway/services.hpp"

#include <array>
#include <cstring>
#include <vector>

#include "base/digest.hpp"

namespace farmesh::gateway {

Checked<HostedModel*> find_model(const Services& services, const std::string& name) {
  if (HostedModel* hosted = services.models.find(name)) return hosted;
  // The name is a stranger's text; one that could be an id is told back.
  const std::string shown = name.size() <= 128 ? "'" + name + "'" : "of that name";
  return Problem{404, "model_not_found", "The model " + shown + " is not served here.", "model"};
}

void LiveTurns::add(const std::shared_ptr<LiveTurn>& turn) {
  const std::lock_guard lock(mutex_);
  std::erase_if(turns_, [](const std::weak_ptr<LiveTurn>& old) { return old.expired(); });
  turns_.push_back(turn);
}

std::vector<std::shared_ptr<LiveTurn>> LiveTurns::all() {
  std::vector<std::shared_ptr<LiveTurn>> all;
  const std::lock_guard lock(mutex_);
  for (const std::weak_ptr<LiveTurn>& turn : turns_) {
    if (auto alive = turn.lock()) all.push_back(std::move(alive));
  }
  return all;
}

std::uint64_t draw_seed() {
  std::array<std::uint8_t, 8> bytes;
  random_bytes(bytes);
  std::uint64_t seed = 0;
  std::memcpy(&seed, bytes.data(), sizeof seed);
  return seed >> 11;
}

std::string draw_id(std::size_t bytes) {
  std::vector<std::uint8_t> drawn(bytes);
  random_bytes(drawn);
  return to_hex(drawn);
}

}  // namespace farmesh::gateway
