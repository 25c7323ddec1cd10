// What the directory wants of a DHT: a place where strangers meet, and signed notes by key.
//
// Implemented by Dht over libtorrent (dht.hpp), and by a stand-in for tests on virtual time.
// Nothing that comes from here is to be trusted: addresses may be anybody's, and an item is only
// as good as the signature that it carries.
// Threading: confined to the network thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.hpp"
#include "identity/node_key.hpp"

namespace farmesh::discovery {

/// What nodes of a kind announce themselves under.
using RendezvousKey = std::array<std::uint8_t, 20>;

inline constexpr std::uint32_t kLayersPerBucket = 16;
inline constexpr std::size_t kMaxItemBytes = 1'000;  // BEP 44: of the value as bencoded

/// Nodes of `mesh` that serve layers [16 * bucket, 16 * bucket + 16) of the model.
RendezvousKey rendezvous_key(std::string_view mesh, const ModelHash& model, std::uint32_t bucket);

/// A signed mutable item of the DHT (BEP 44, without salt).
struct DhtItem {
  identity::PublicKey key{};
  std::int64_t sequence = 0;
  identity::Signature signature{};
  std::string value;  // bytes; bencoded as one string
};

/// Signs `value` as the item of `key`. It must fit: bencoded, at most kMaxItemBytes.
DhtItem make_item(const identity::NodeKey& key, std::int64_t sequence, std::string value);
bool verify_item(const DhtItem& item);

/// Questions return at once; answers come to the listener, on the network thread, any number of
/// them and perhaps none.
class Rendezvous {
 public:
  struct Listener {
    /// Some of those who announced themselves, "HOST:PORT".
    std::function<void(const RendezvousKey&, const std::vector<std::string>&)> on_peers;
    /// The newest item so far of a key that was asked for. Its signature was not checked.
    std::function<void(const DhtItem&)> on_item;
    /// A put has ended, with the item on so many nodes.
    std::function<void(const DhtItem&, int copies)> on_stored;
  };

  virtual ~Rendezvous() = default;
  virtual void listen(Listener listener) = 0;  // one at a time; an empty one listens no more
  /// Greets the nodes that it began with again: they may have been away when it did.
  virtual void rejoin() = 0;
  virtual void announce(const RendezvousKey& key, std::uint16_t port) = 0;  // TCP, of this host
  virtual void find(const RendezvousKey& key) = 0;
  virtual void put(const DhtItem& item) = 0;
  virtual void get(const identity::PublicKey& key) = 0;
};

}  // namespace farmesh::discovery
