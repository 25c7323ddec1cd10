#include "net/relay_dial.hpp"

#include <memory>
#include <utility>

#include "net/connection.hpp"

namespace farmesh::net {

Task<Result<wire::RelayTicket>> ask_relay(Transport& transport, std::string address, NodeId node,
                                          TimePoint deadline) {
  Connection::Identity identity;
  identity.hello = [] { return wire::Hello(); };  // the link knows who this is
  Connection::FrameHandler on_frame = [](const std::shared_ptr<Connection>& from,
                                         const wire::Frame& frame) {
    from->fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " from a relay"});
  };
  auto connecting = Connection::connect(transport, std::move(address), std::move(identity),
                                        std::move(on_frame), {}, deadline);
  const Result<std::shared_ptr<Connection>> relay = co_await std::move(connecting);
  if (!relay) co_return relay.error();
  wire::Relay wanted;
  wanted.node = node;
  auto asking = (*relay)->call(wire::Verb::relay, wire::encode(wanted), {}, deadline);
  const Result<wire::Frame> answer = co_await std::move(asking);
  if (!answer) co_return answer.error();
  const Result<wire::RelayReply> reply = wire::decode<wire::RelayReply>(answer->header);
  if (!reply) co_return reply.error();
  co_return reply->ticket;
}

}  // namespace farmesh::net
