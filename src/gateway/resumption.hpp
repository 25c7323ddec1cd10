// Streams that were cut and go on: at the coordinator that made them, or at another.
//
// Every event of a stream has an id, "REQUEST:N" after N items (tokens, and ends of sequences). A
// client that comes back with its last one gets the items after it. They are made again from the
// seed, behind the tokens that are known; each token of a request is charged once, whoever makes
// it: the ledger's sessions of one request follow each other without overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/caller.hpp"
#include "gateway/problem.hpp"
#include "gateway/session_cache.hpp"
#include "http/request.hpp"

namespace farmesh::gateway {

struct Services;

struct LastEvent {
  std::string request_id;
  std::size_t items = 0;  // that the client has
};
std::string event_id(std::string_view request_id, std::size_t items);
/// Nothing when it is none of ours.
std::optional<LastEvent> parse_event_id(std::string_view id);

struct Resumption {
  CachedTurn turn;              // as the stream before this one left it
  std::uint64_t told = 0;       // items that the client has
  std::uint64_t charged = 0;    // tokens in the ledger's earlier sessions of this request
  bool prompt_charged = false;  // and the prompt in one of them
  std::string session_request;  // the request id of the ledger's next session of it
  bool ended = false;           // every item is known, and every token charged
  std::uint32_t repeated = 0;   // tokens that are charged and not known: made again, unpaid
  /// Of each sequence, the output ids that are known and charged: where it goes on from.
  std::vector<std::vector<TokenId>> known;
};

/// Of a request with a Last-Event-ID: what to go on with, once whatever still makes that stream has
/// been stopped and its session closed. Nothing without that header. Fails with 404 (no such
/// stream of this caller's), 409 (another body than `body_digest`, other weights), 503.
Checked<std::optional<Resumption>> find_resumption(Services& services, const http::Request& request,
                                                   const Caller& caller,
                                                   const std::string& body_digest);

/// The request id of the ledger's session number `link` of a request: its own, then others that no
/// client can choose.
std::string session_request_id(const std::string& request_id, unsigned link);

}  // namespace farmesh::gateway
