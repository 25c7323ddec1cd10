// How others get to this node: at the address that it announces, at a port of its router, or
// through a relay that it keeps a connection to. And what it does for others in the same plight.
//
// Takes who is there from the directory, gives it the addresses of this node's record; docs/nat.md
// tells the rules. Threading: confined to the network thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "discovery/dht_engine.hpp"
#include "discovery/directory.hpp"
#include "net/link.hpp"
#include "wire/messages.hpp"

namespace farmesh::node {

struct DoorwayOptions {
  wire::Hello hello;          // to those who are asked
  std::string announced;      // an address of this node; a name is resolved before others are asked
  std::uint16_t port = 0;     // TCP, that it listens at
  net::RelayLimits relaying;  // what it does for others, while it is no hidden node itself
  std::chrono::milliseconds dial_timeout{5'000};
  std::chrono::milliseconds recheck{600'000};
  std::filesystem::path bandwidth_file;  // that remembers what was measured; empty: none
};

class Doorway {
 public:
  /// What the node's record tells; both empty: there is no way in for now.
  struct Ways {
    std::vector<std::string> addresses;
    std::string relay;
    friend bool operator==(const Ways&, const Ways&) = default;
  };
  struct Events {
    std::function<void()> on_ways;                            // they have changed
    std::function<void(std::shared_ptr<net::Link>)> on_link;  // somebody has come through the relay
    std::function<bool()> listens;                            // others could get in now
  };

  /// `transport` and `directory` outlive the doorway.
  Doorway(net::Transport& transport, discovery::Directory& directory, DoorwayOptions options,
          Events events);
  ~Doorway();
  Doorway(const Doorway&) = delete;
  Doorway& operator=(const Doorway&) = delete;

  /// Begins to ask.
  void start();
  /// The directory's view has changed.
  void look_again();
  /// The router has answered.
  void mapped(const discovery::PortMapped& answer);

  /// `reach` and `relay` requests of others.
  void answer(const std::shared_ptr<net::Connection>& connection, const wire::Frame& request);

  Ways ways() const;
  /// What it sends at, as measured on a peer; 0: not yet.
  std::uint32_t bandwidth_kbps() const noexcept;
  /// Whether others may be dialled through this node.
  bool relays() const noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with questions under way
};

}  // namespace farmesh::node
