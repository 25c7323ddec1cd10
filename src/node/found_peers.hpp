// The addresses of peers that a model or a head uses: those that the user named, and those that
// were found, so many and no more. Peers come and go for as long as a process runs: who is told of
// no more makes room.
//
// Threading: the network thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace farmesh::node {

class FoundPeers {
 public:
  struct Change {
    std::vector<std::string> added;
    std::vector<std::string> dropped;
  };

  FoundPeers(std::vector<std::string> named, std::size_t most)
      : named_(named.size()), most_(most), all_(std::move(named)) {}

  /// `told`: everybody who is known to serve now. Where there is no room for all of them, those
  /// that were found before, are not told of any more and not `in_use` are dropped, the oldest
  /// first.
  Change look(const std::vector<std::string>& told,
              const std::function<bool(const std::string&)>& in_use);

  /// Named ones first.
  const std::vector<std::string>& all() const noexcept { return all_; }

 private:
  std::size_t named_;  // that are never dropped: the first of all_
  std::size_t most_;
  std::vector<std::string> all_;
};

}  // namespace farmesh::node
