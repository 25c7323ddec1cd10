#include "gateway/services.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
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

void UnsettledSessions::add(SessionOutcome outcome) {
  const std::lock_guard lock(mutex_);
  outcomes_.push_back(std::move(outcome));
}

std::vector<SessionOutcome> UnsettledSessions::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outcomes_, {});
}

std::size_t UnsettledSessions::size() const {
  const std::lock_guard lock(mutex_);
  return outcomes_.size();
}

void RecentLatencies::add(double ms) {
  const std::lock_guard lock(mutex_);
  ms_.push_back(ms);
  if (ms_.size() > kMany) ms_.pop_front();
}

ledger::Latencies RecentLatencies::summary() const {
  std::vector<double> sorted;
  {
    const std::lock_guard lock(mutex_);
    sorted.assign(ms_.begin(), ms_.end());
  }
  if (sorted.empty()) return {};
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&sorted](std::size_t percent) {
    return sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)];
  };
  const double sum = std::accumulate(sorted.begin(), sorted.end(), 0.0);
  return {sum / double(sorted.size()), at(95), at(99)};
}

std::string fingerprint(const HostedModel& hosted) {
  const ModelSummary summary = hosted.model->state().summary;
  return "fp_" + summary.model_hash.substr(0, 12) + "_" + summary.numerics_class;
}

std::string draw_id(std::size_t bytes) {
  std::vector<std::uint8_t> drawn(bytes);
  random_bytes(drawn);
  return to_hex(drawn);
}

}  // namespace farmesh::gateway
