// The peers a driver knows: one connection to each, what they serve, who failed lately.
//
// Shared by all sessions of a process. Frames about a session go to the chain registered for it.
// A frame that no registered session waits for is dropped: it is the echo of a closed one.
// Threading: confined to the transport's executor. Must outlive its chains and generators.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <farmesh/result.hpp>

#include "driver/bill.hpp"
#include "identity/node_key.hpp"
#include "net/connection.hpp"
#include "net/link.hpp"
#include "route/planner.hpp"
#include "wire/messages.hpp"

namespace farmesh::driver {

struct PeerSetOptions {
  wire::Hello hello;           // what this side says of itself
  ModelHash model_hash;        // peers with another hash are refused; all zero: the first one's
  std::string numerics_class;  // peers of another class are refused; empty: the first one's
  std::chrono::milliseconds dial_timeout{5'000};
  std::chrono::milliseconds ban{2'000};  // doubles with each failure in a row
  std::chrono::milliseconds max_ban{60'000};
  net::ConnectionOptions connection;
  /// Called when nobody could be reached at an address, with that address; may be empty.
  std::function<void(const std::string& address)> on_unreachable;
  std::optional<identity::NodeKey> key;  // this node's: signs grants; none: nothing is paid
};

/// What a peer says of itself where it is found, before anybody has measured it.
struct PeerClaims {
  std::string place;
  bool relayed = false;
  Duration layer_time{};  // zero: not told
  std::uint32_t queued_rows = 0;
  std::uint32_t free_tokens = route::kUnknownRoom;
};

/// Frames that concern one session, and losses of links to any peer.
class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  virtual void on_frame(const std::string& address, wire::Frame frame) = 0;
  virtual void on_peer_lost(const std::string& address, const Error& error) = 0;
};

class PeerSet {
 public:
  PeerSet(net::Transport& transport, PeerSetOptions options);
  ~PeerSet();
  PeerSet(const PeerSet&) = delete;
  PeerSet& operator=(const PeerSet&) = delete;

  void add(const std::string& address);
  /// Nobody is to be expected there any more: out of the view, and not dialled, until it is added
  /// or asked for again. Not for a peer that is connected.
  void forget(const std::string& address);
  /// A stage in this process, reached through a pipe; `name` takes the place of an address.
  net::Task<Result<void>> add_local(std::string name, std::shared_ptr<net::Link> link);

  /// Dials, in parallel, every peer that is neither connected nor banned (with `even_banned`,
  /// those too). Returns what each failure was (address, error); success of the whole is for
  /// plan() to judge. With `until_one` it returns as soon as one is connected, while the other
  /// dials go on.
  net::Task<std::vector<std::pair<std::string, Error>>> connect_all(TimePoint deadline,
                                                                    bool even_banned = false,
                                                                    bool until_one = false);

  /// The open connection, or a fresh one, to a banned peer too. Fails as Connection::connect()
  /// does, or with weights_mismatch, numerics_mismatch, config_mismatch, span_unavailable (it
  /// serves nothing), each naming the peer.
  /// With `any_class`, a peer of another numerics class will do.
  net::Task<Result<std::shared_ptr<net::Connection>>> connection(std::string address,
                                                                 TimePoint deadline,
                                                                 bool any_class = false);

  /// Every peer that ever said what layers it holds, in the order they were added; with
  /// `any_class`, also those that were refused for their numerics class alone.
  std::vector<route::PeerView> view(bool any_class = false) const;
  /// The ways between them that steps have told of, by index in view(any_class).
  std::vector<route::LinkView> links(bool any_class = false) const;
  /// Who answered at this address; all zero: nobody yet, or no such peer.
  NodeId node_id(const std::string& address) const;
  bool is_connected(const std::string& address) const;
  /// Peers connected now that offer a head, best first.
  std::vector<std::string> heads() const;
  /// The service of any connected peer: layer count, hidden size, vocabulary.
  std::optional<wire::Service> service() const;

  /// Bans the peer for a while.
  void report_failure(const std::string& address, const Error& error);
  /// Bans the peer and ends the connection to it: it is silent, though its link is not.
  void disconnect(const std::string& address, const Error& error);
  /// `rows` rows took `hop_time` through `span`, waiting included: the peer is well, and this is
  /// its speed.
  void report_success(const std::string& address, Span span, Duration hop_time, std::uint32_t rows);
  /// A stage measured this round trip to the one after it.
  void report_link(const std::string& from, const std::string& to, Duration round_trip);
  /// Takes the place of what the peer claimed before. What the peer itself was asked counts more.
  void report_claims(const std::string& address, const PeerClaims& claims);
  /// Asks connected peers for their load and round trip where what is known is older than
  /// `max_age`. Returns at once; view() tells more later.
  void refresh(Duration max_age);

  void register_session(const SessionId& session, std::weak_ptr<SessionHandler> handler);
  void unregister_session(const SessionId& session);
  /// Receipts for its session go there, for as long as it lives.
  void register_bill(const std::shared_ptr<Bill>& bill);
  /// The same for a session that an earlier process drove (Bill::expect): peers that are connected
  /// are asked for their receipts at once, others as they come. Every peer that comes back is asked
  /// so for all bills that miss something of it.
  void ask_receipts(const std::shared_ptr<Bill>& bill);
  /// Receipts that no bill took.
  std::uint64_t refused_receipts() const noexcept;

  net::Transport& transport() noexcept;
  net::Clock& clock() noexcept;
  const PeerSetOptions& options() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with dials under way
};

}  // namespace farmesh::driver
