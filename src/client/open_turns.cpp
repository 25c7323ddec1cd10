#include "client/open_turns.hpp"

#include "client/conversation.hpp"

namespace farmesh::client {

void OpenTurns::began(std::shared_ptr<Conversation> conversation) {
  running_.insert(std::move(conversation));
  idle_.reset();
}

void OpenTurns::ended(const std::shared_ptr<Conversation>& conversation) {
  running_.erase(conversation);
  if (running_.empty()) idle_.set();
}

net::Task<void> OpenTurns::close_all() {
  const std::set<std::shared_ptr<Conversation>> running = running_;
  for (const auto& conversation : running) conversation->close();
  co_await idle_.wait(TimePoint::max());
}

}  // namespace farmesh::client
