// The insides of peer.hpp, in two files: peer.cpp (connections, sessions and requests about
// them) and peer_steps.cpp (rows: in, on to the next stage, back to the driver, and again).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/event.hpp"
#include "serve/history.hpp"
#include "serve/outlets.hpp"
#include "serve/peer.hpp"

namespace farmesh::serve {

struct Peer::Impl : std::enable_shared_from_this<Impl> {
  using ConnectionPtr = std::shared_ptr<net::Connection>;

  /// Who drives it, where its rows go. Its cache and queue are the worker's.
  struct Session {
    std::weak_ptr<net::Connection> driver;
    std::uint32_t epoch = 0;
    Span span;
    Activations activations = Activations::residual;
    std::string next_hop;  // that rows were last pushed to
    std::uint32_t pushed_position = 0;
    TimePoint pushed_at{};
    std::weak_ptr<void> replay;  // alive while one has not been sent whole
    Meter::Count count;          // of what is paid
  };

  /// The other end of a connection that somebody made to this peer.
  struct Client {
    ConnectionPtr connection;
    std::set<SessionId> sessions;    // that it drives
    std::set<SessionId> generating;  // that it asked to be driven, and has not closed
  };

  Impl(net::Transport& t, Worker& w, PeerOptions o, GenerateService* g);

  // peer.cpp
  void begin();
  void end();
  net::Connection::Identity identity();
  wire::Hello hello() const;
  Result<std::string> listen(const std::string& address);
  void accept(std::shared_ptr<net::Link> link);
  void disconnected(const ConnectionPtr& connection);
  static net::Task<void> drain(std::shared_ptr<Impl> self, TimePoint deadline);
  bool is_drained() const noexcept { return sessions.empty() && generating.empty(); }

  void receive(const ConnectionPtr& connection, wire::Frame frame);
  void open(const ConnectionPtr& connection, const wire::Frame& request, const wire::Open& message);
  Result<void> may_open(const wire::Open& message, const NodeId& driver) const;
  bool is_bounded(const NodeId& remote) const noexcept {
    return !is_unknown(remote) && remote != options.node_id;
  }
  void truncate(const ConnectionPtr& connection, const wire::Frame& request,
                const wire::Truncate& message);
  void tell_history(const ConnectionPtr& connection, const wire::Frame& request,
                    const wire::HistoryQuery& message);
  void close(const ConnectionPtr& connection, const wire::Frame& request,
             const wire::Close& message);
  void start_generate(const ConnectionPtr& connection, wire::Frame request, wire::Generate message);
  void stop_generate(Client& client, const SessionId& id);
  /// `positions`: those that the driver says were used; nothing when it did not say.
  void end_session(const SessionId& id, std::optional<std::uint32_t> positions = std::nullopt);
  void tell_receipts(const ConnectionPtr& connection, const wire::Frame& request);
  static void send_receipt(const ConnectionPtr& driver, const wire::SignedReceipt& receipt);

  // peer_steps.cpp
  void step(const ConnectionPtr& connection, const wire::Frame& frame, wire::Step message);
  Result<void> may_compute(const Session& session, const wire::Step& step);
  DType travelling(const Session& session) const noexcept;
  Result<Payload> received(const Session& session, const wire::Step& step,
                           const Payload& rows) const;
  Result<Payload> to_send(const Session& session, Payload rows) const;
  void computed(const wire::Step& step, Result<StepOutput> result);
  void answer(const Session& session, const wire::Step& step, Payload rows);
  void push(Session& session, wire::Step step, Payload rows);
  void replay(const ConnectionPtr& connection, const wire::Frame& request,
              const wire::Replay& message);
  Result<void> may_replay(const wire::Replay& message);
  void send_replay(Session& session, const wire::Replay& message);
  void undelivered(const std::string& address, const Outlets::Parcel& parcel, const Error& error);
  void next_hop_lost(const std::string& address, const Error& error);
  void told_by_next_hop(const std::string& address, const wire::Frame& frame);
  void tell_driver(const Session& session, wire::ErrorMessage message);

  Session* find(const SessionId& id);

  net::Transport& transport;
  net::Clock& clock;
  Worker& worker;
  PeerOptions options;
  GenerateService* generate;
  History history;
  RemoteShares shares;
  Meter meter;
  std::unique_ptr<Outlets> outlets;
  std::unique_ptr<net::Listener> listener;
  std::vector<std::weak_ptr<net::Link>> links;  // accepted, also those that say no hello
  std::map<const net::Connection*, Client> clients;
  std::unordered_map<SessionId, Session, HashOfBytes> sessions;
  std::unordered_map<SessionId, const net::Connection*, HashOfBytes> generating;
  net::Event drained;
  bool draining = false;
  PeerStats stats;
};

}  // namespace farmesh::serve
