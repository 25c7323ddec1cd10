// The turns in progress of one model, so that a shutdown can end them and wait for it.
// Threading: network thread.
#pragma once

#include <memory>
#include <set>

#include "net/clock.hpp"
#include "net/event.hpp"
#include "net/task.hpp"

namespace farmesh::client {

class Conversation;

class OpenTurns {
 public:
  explicit OpenTurns(net::Clock& clock) : idle_(clock) { idle_.set(); }

  void began(std::shared_ptr<Conversation> conversation);
  void ended(const std::shared_ptr<Conversation>& conversation);

  /// Closes every conversation that runs a turn; returns when no turn runs any more.
  net::Task<void> close_all();

 private:
  std::set<std::shared_ptr<Conversation>> running_;
  net::Event idle_;
};

}  // namespace farmesh::client
