// A peer of the mesh: holds a run of a model's layers, and serves them to whoever drives.
//
// Networking and computing happen on threads of the peer's own; the calls here are thread-safe.
// After fork() the child may only destroy the object.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/device.hpp>
#include <farmesh/discovery.hpp>
#include <farmesh/export.hpp>
#include <farmesh/identity.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>
#include <farmesh/weights.hpp>

namespace farmesh::inline FARMESH_ABI {

/// How a peer takes the layers that the mesh serves worst, and goes elsewhere when others are.
struct LayerChoice {
  std::uint32_t max_layers = 0;    // 0: as many as fit into memory
  std::uint64_t memory_bytes = 0;  // to use at most; 0: what is free
  /// How long records of others are awaited before the first choice, at most.
  std::chrono::milliseconds first_look{5'000};
  /// How often it looks whether it is needed elsewhere; 0: it stays where it is. It never leaves a
  /// layer that nobody else serves.
  std::chrono::milliseconds look_every{120'000};
  /// How long layers have been without anybody before it goes there.
  std::chrono::milliseconds hole_patience{10'000};
  /// How long open sessions may take to end before a move for balance; to close a hole it hands
  /// them over at once. Drivers go on with another peer either way.
  std::chrono::milliseconds drain{30'000};
  /// The layers, each time that it begins to serve others than those that start() took; on a
  /// thread of the peer's own, which must not stop the peer.
  std::function<void(Span)> on_layers;
};

/// What a peer does for nodes that nobody can dial: it passes their connections on, unread.
struct RelayOptions {
  std::uint32_t sessions = 16;      // connections at once, and nodes; 0: none
  double megabits_per_second = 20;  // of all of them, both ways together
  double gigabytes_per_day = 50;
};

struct PeerOptions {
  /// Hugging Face layout, or "ORG/NAME", an id at a hub; only the tensors of `layers` are read.
  std::string folder;
  WeightsOptions weights;  // for an id
  Span layers;             // half-open; empty for a head alone
  /// Instead of `layers`, where discovery is enabled. Without `precision` it also chooses that.
  std::optional<LayerChoice> choose_layers;
  /// Also hosts the head and runs the generation loop for clients without one: such clients'
  /// tokens are seen here.
  bool head = false;
  std::vector<std::string> peers;      // that the generation loop may use, "HOST:PORT"
  std::string listen = "127.0.0.1:0";  // port 0: one that is free
  std::string advertise;               // where others dial it; empty: the listening address
  std::optional<Precision> precision;  // nothing: f32 when the files are f32, else bf16
  std::optional<KvFormat> kv;          // nothing: f32 for f32, else bf16
  std::optional<Numerics> numerics;    // nothing: exact on a CPU, fused on a GPU
  Device device;                       // that computes; a GPU keeps weights and cache, too
  int threads = 0;                     // that compute; 0: one for each core available
  /// Binds them to cores, one each, from the core of this number among those that the process may
  /// use on, round again at the last, and the network thread to the first of them; nothing:
  /// unbound. Of exact numerics.
  std::optional<int> pin_threads;
  std::string model_id;                 // for display; empty: the folder's name
  std::uint32_t cache_tokens = 16'384;  // KV cache over all sessions
  /// (bytes loaded, bytes in all) while weights load, on the thread that called start().
  std::function<void(std::uint64_t, std::uint64_t)> on_loading;
  IdentityOptions identity;
  /// Where it is enabled, the node is found by those who look for its layers, and a hosted head
  /// finds the peers for the others.
  DiscoveryOptions discovery;
  RelayOptions relay;
  std::uint32_t max_remote_sessions = 128;  // open at once of one remote node, then quota
  std::uint64_t max_remote_tokens = 0;      // of cache promised to one; 0: as much as there is
  /// An hour, for one without a grant; 0: any number.
  std::uint64_t max_unpaid_tokens = 1'000'000;
  /// Serves only sessions that a signed grant pays for, and signs receipts for those either way.
  /// Clients without a head are refused then: nobody pays for them.
  bool paid = false;
  std::vector<std::string> payers;  // node ids whose grants count; empty: anybody's
  std::string place;  // where it is, such as "eu-west", as its record tells; at most 128 bytes
};

struct PeerStats {
  std::uint64_t steps = 0;  // runs of rows through the layers
  std::uint64_t rows = 0;   // one a token and step
  std::uint64_t forwarded_bytes = 0;
  std::uint32_t sessions = 0;
  std::uint32_t connections = 0;
  std::uint64_t weight_bytes = 0;
  std::uint32_t queued_rows = 0;
  std::uint32_t free_tokens = 0;  // of KV cache
  std::uint32_t layer_us = 0;     // one row through one layer, lately; 0: none has been yet
};

class FARMESH_API Peer {
 public:
  /// Loads the layers and begins to listen. Fails with model_not_found, model_malformed,
  /// model_unsupported, config_mismatch, invalid_argument (layers outside the model, or nothing
  /// to serve), engine_unavailable, out_of_memory (also when not one layer fits, which it says
  /// before it loads), address_invalid, config_invalid (key or token), io_error; of an id also
  /// hub_refused, hub_changed, weights_damaged, disk_full, hash_unknown, bad_http and transport
  /// failures.
  static Result<Peer> start(PeerOptions options);

  Peer(Peer&&) noexcept;
  Peer& operator=(Peer&&) noexcept;
  ~Peer();  // as stop() with no time to drain

  /// "HOST:PORT", with the port that was chosen.
  const std::string& address() const noexcept;
  Span layers() const;                             // that it serves now; empty while it moves
  const std::string& node_id() const noexcept;     // 64 hexadecimal digits
  const std::string& public_key() const noexcept;  // of which it is the hash; 64 digits too
  std::uint32_t num_layers() const noexcept;       // of the whole model
  const std::string& model_id() const noexcept;    // for display
  const std::string& numerics_class() const noexcept;
  const std::string& model_hash() const noexcept;  // 64 hexadecimal digits

  /// Returns once stop() has ended, in whichever thread.
  void wait();

  /// Takes no new sessions, lets the open ones end for at most `drain`, then closes. Idempotent.
  void stop(std::chrono::milliseconds drain = std::chrono::milliseconds(0));

  PeerStats stats() const;

  /// What `farmesh key bind` made, whole: its record carries it from now on, unchecked. Fails with
  /// invalid_argument above 1,024 bytes.
  Result<void> carry_wallet_statement(std::string text);

  /// The node key's Ed25519 signature, 128 hexadecimal digits, of `message` as a statement of the
  /// kind `domain`: printable text that begins with "farmesh ", of at most 64 characters. Fails
  /// with invalid_argument when `domain` is none.
  Result<std::string> sign(std::string_view domain, std::string_view message) const;

  struct Impl;

 private:
  explicit Peer(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::inline FARMESH_ABI
