#include "node/found_peers.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace farmesh::node {

FoundPeers::Change FoundPeers::look(const std::vector<std::string>& told,
                                    const std::function<bool(const std::string&)>& in_use) {
  const std::set<std::string> current(told.begin(), told.end());
  std::set<std::string> held(all_.begin(), all_.end());
  Change change;
  for (const std::string& address : told) {
    if (held.contains(address)) continue;
    if (all_.size() >= most_) {
      const auto found = all_.begin() + static_cast<std::ptrdiff_t>(named_);
      const auto old = std::find_if(found, all_.end(), [&](const std::string& one) {
        return !current.contains(one) && !in_use(one);
      });
      if (old == all_.end()) break;
      change.dropped.push_back(std::move(*old));
      all_.erase(old);
    }
    all_.push_back(address);
    held.insert(address);
    change.added.push_back(address);
  }
  return change;
}

}  // namespace farmesh::node
