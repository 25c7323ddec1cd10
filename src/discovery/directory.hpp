// Who serves which layers: finds nodes in the DHT and asks them, keeps their signed records, and
// says the same of this node, in its own record, twice a refresh period.
//
// Takes addresses from strangers and records from those who answer, gives route/ and node/ a view
// of living nodes. docs/discovery.md tells the whole story.
// Threading: confined to the network thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "discovery/record_table.hpp"
#include "discovery/rendezvous.hpp"
#include "net/connection.hpp"
#include "net/link.hpp"
#include "net/task.hpp"

namespace farmesh::discovery {

struct DirectoryOptions {
  std::string mesh{kDefaultMesh};
  ModelHash model_hash;          // that is looked for; all zero: any, of whoever can be asked
  std::uint32_t num_layers = 0;  // of that model; 0: only contacts are asked
  /// A node's record is renewed twice in this time and believed for twice this time.
  std::chrono::milliseconds refresh{60'000};
  std::chrono::milliseconds dial_timeout{3'000};
  wire::Hello hello;                      // to the nodes that are asked
  std::function<std::int64_t()> unix_ms;  // empty: the system's clock
  std::size_t max_records = 8'192;
  std::size_t max_neighbours = 8;  // connections that are kept, to ask again
  std::size_t max_asked_at_once = 8;
  std::size_t max_waiting = 256;         // addresses to be asked
  std::size_t max_items_per_round = 64;  // looked up by key, twice a period
  double answers_per_second = 100;       // to all who ask this node
  net::ConnectionOptions connection;
};

struct DirectoryStats {
  RecordCounts records;
  std::size_t held = 0;
  std::size_t neighbours = 0;
  std::uint64_t asked = 0;         // nodes, by swarm
  std::uint64_t unreachable = 0;   // of those
  std::uint64_t forged_items = 0;  // of the DHT, dropped
  std::uint64_t answered = 0;      // swarm requests of others
  std::uint64_t refused = 0;       // of those, for want of rate
};

class Directory {
 public:
  /// `transport` and `rendezvous` outlive the directory; without a rendezvous only contacts and
  /// those they tell of are known.
  Directory(net::Transport& transport, Rendezvous* rendezvous, DirectoryOptions options);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  /// A node to be asked for records, at every round until one of its connections stays.
  void add_contact(const std::string& address);

  /// This node serves. `describe` fills in what the record says, each time that it is renewed;
  /// key, sequence and times are the directory's. `port`: TCP, announced in the DHT. While it gives
  /// no address and no relay, nothing new is said.
  void publish(identity::NodeKey key, std::uint16_t port, std::function<NodeRecord()> describe);

  /// Begins to look, to ask and to publish.
  void start();
  /// Renews at once what this node says of itself, such as after its layers have changed.
  void renew();
  /// Tells that this node serves no more, and waits until the DHT has it or `deadline` passes.
  net::Task<void> leave(TimePoint deadline);

  /// Called after the view has changed; once for many changes, never inline.
  void on_change(std::function<void()> fn);
  /// Records of living nodes that serve something of the model, without this one; by node id.
  std::vector<RecordPtr> view() const;
  RecordPtr find(const NodeId& id) const;

  /// A contact with the node failed at this address of its record: it leaves the view at once,
  /// until it signs a new record, or says that it is elsewhere.
  void report_unreachable(const NodeId& id, const std::string& address);

  /// Why somebody who was asked lets this process not in (join_refused), as told last.
  const std::optional<Error>& refusal() const noexcept;

  /// Answers a `swarm` request from a connection of any room.
  void answer(const std::shared_ptr<net::Connection>& connection, const wire::Frame& request);

  DirectoryStats stats() const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;  // shared with tasks under way
};

}  // namespace farmesh::discovery
