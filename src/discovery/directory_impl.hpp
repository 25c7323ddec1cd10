// The insides of directory.hpp, in two files: directory.cpp (rounds, this node, the DHT) and
// directory_asking.cpp (connections to others, and their questions to us).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/directory.hpp"
#include "net/event.hpp"
#include "wire/swarm.hpp"

namespace farmesh::discovery {

/// Longest that a node which does not answer is left alone.
inline constexpr std::chrono::minutes kMaxBackoff{10};

struct Directory::Impl : std::enable_shared_from_this<Impl> {
  using Connection = net::Connection;
  using ConnectionPtr = std::shared_ptr<Connection>;

  /// What this node says of itself.
  struct Own {
    identity::NodeKey key;
    std::uint16_t port;
    std::function<NodeRecord()> describe;
    SignedRecord last{};
    TimePoint announced{};
    bool left = false;
  };
  struct Failure {
    int count = 0;
    TimePoint until{};
  };

  Impl(net::Transport& t, Rendezvous* r, DirectoryOptions o);

  void begin();
  static net::Task<void> run(std::shared_ptr<Impl> self);
  void round();
  void hurry();
  void lost_neighbour();
  Duration half_period() const { return Duration(options.refresh) / 2; }

  void renew_own(bool leaving);
  void announce_own();
  void look_for_nodes();
  void look_up_items();
  void look_up(const std::vector<identity::PublicKey>& keys);
  void look_up_some();
  void hide(const NodeId& id, const std::string& address);
  void look_for_moved(const NodeId& id);
  void found_peers(const std::vector<std::string>& addresses);
  void found_item(const DhtItem& item);

  void want(const std::string& address);
  void pump();
  void want_neighbours();
  bool knows(const std::string& address) const;
  static net::Task<void> ask(std::shared_ptr<Impl> self, std::string address);
  static net::Task<Result<void>> ask_pages(std::shared_ptr<Impl> self, ConnectionPtr connection);
  net::Task<Result<ConnectionPtr>> connect(const std::string& address);
  bool wants_to_keep(const std::string& address, const Connection& connection) const;
  void contact_failed(const std::string& address, const Error& error);
  void connection_ended(const std::string& address, const ConnectionPtr& connection);
  RecordTable::Outcome take(std::string_view bytes, const NodeId* must_be = nullptr);

  void answer(const ConnectionPtr& connection, const wire::Frame& request);
  Result<wire::SwarmReply> reply_to(const NodeId& asker, const wire::Swarm& query);
  bool within_rate();
  void changed();
  bool is_own(const NodeId& id) const { return own && own->key.id() == id; }

  net::Transport& transport;
  net::Clock& clock;
  Rendezvous* rendezvous;
  DirectoryOptions options;
  RecordTable table;
  std::optional<Own> own;
  std::vector<std::string> contacts;
  std::map<std::string, ConnectionPtr> neighbours;  // by the address that was dialled
  std::deque<std::string> waiting;                  // to be asked
  std::deque<identity::PublicKey> late;             // whose items are to be looked up
  std::set<std::string> asking;
  std::set<std::string> ended;  // neighbours that are dialled again
  std::map<std::string, Failure> failures;
  std::optional<Error> refusal;  // of a private mesh, as told last
  net::Event next_round;
  net::Event stored;
  std::function<void()> on_change;
  bool change_posted = false;
  bool running = false;
  bool closed = false;
  int rounds = 0;  // since the first, or since there was reason to hurry
  Duration pause{};
  double allowance = 0;
  TimePoint allowed_at{};
  std::mt19937 random;
  DirectoryStats stats;
};

}  // namespace farmesh::discovery
