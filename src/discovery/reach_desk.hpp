// Dials those who ask whether they can be dialled, and tells them (docs/nat.md).
//
// Takes `reach` requests from connections of any room. Only the address that a question came from,
// or the public one that its asker announced in hello, is dialled, and seldom.
// Threading: confined to the network thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <farmesh/result.hpp>

#include "net/connection.hpp"
#include "net/link.hpp"
#include "net/rate_book.hpp"
#include "wire/reach.hpp"

namespace farmesh::discovery {

struct ReachDeskOptions {
  std::chrono::milliseconds dial_timeout{2'000};
  std::size_t max_dials = 8;  // at once; more are told busy
  net::Rate per_node{4, 0.1};
  net::Rate per_address{16, 0.1};
};

class ReachDesk {
 public:
  explicit ReachDesk(net::Transport& transport, ReachDeskOptions options = {});
  ~ReachDesk();

  void answer(const std::shared_ptr<net::Connection>& connection, const wire::Frame& request);

  std::uint64_t dials() const noexcept;  // ever

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with dials under way
};

/// The host of "HOST:PORT", numeric and in one form; empty where it is a name, or of a node behind
/// a relay.
std::string numeric_host(const std::string& address);

/// Whether `address` may be dialled for one who asks from the host `source` and announced
/// `announced`.
bool may_reach(const std::string& address, const std::string& source, const std::string& announced);

}  // namespace farmesh::discovery
