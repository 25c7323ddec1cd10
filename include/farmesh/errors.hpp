// Every way FarMesh can fail, as one append-only enumeration.
//
// Numbers are part of the wire protocol and of the SDKs: never reuse or renumber.
// Ranges: 1 transport, 100 protocol, 200 capacity, 300 model and text, 400 ledger, 500 use, 600
// chain. docs/errors.md lists the same rows; a test compares the two.
#pragma once

#include <cstdint>
#include <string_view>

#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

enum class Errc : std::uint16_t {
  ok = 0,

  // Transport: another peer may well succeed.
  connection_refused = 1,  // nobody listens at the address
  connection_lost = 2,     // the link ended while something was pending on it
  timeout = 3,             // no answer before the deadline
  address_invalid = 4,     // the address text cannot be parsed or resolved
  next_hop_lost = 5,       // a peer could not push to the peer after it
  closed = 6,              // this side closed the link or session
  io_error = 7,            // the operating system refused a socket or file operation
  tls_failed = 8,          // the TLS handshake failed, or the certificate is not to be trusted
  identity_mismatch = 9,   // the node at the address has another key than the one expected

  // Protocol: the remote speaks wrongly; its connection is closed.
  bad_magic = 100,            // the bytes are not a FarMesh frame
  version_unsupported = 101,  // no common protocol version
  frame_too_large = 102,      // header or payload above the stated maximum
  bad_header = 103,           // the frame header does not verify against its schema
  bad_verb = 104,             // verb unknown to this version
  bad_stream = 105,           // stream id not open on this connection
  bad_shape = 106,            // payload size, dtype or row count contradict the header
  bad_payload = 107,       // payload holds a value that cannot be (NaN, infinity, id >= vocabulary)
  unexpected_verb = 108,   // a legal verb at an illegal moment, such as a step before hello
  remote_unknown = 109,    // the remote sent an error number this version does not know
  weights_mismatch = 110,  // the peer serves other weights under the same name
  numerics_mismatch = 111,  // the peer computes in another numerics class
  stale_epoch = 112,        // the step belongs to a route that was replaced
  position_gap = 113,       // the step does not continue the session's cache
  bad_http = 114,           // the answer is not the HTTP it should be, or redirects without end
  join_refused = 115,       // a private mesh: no join token, or one that is not valid there

  // Capacity: the same request may succeed later or elsewhere.
  busy = 200,               // the queue is full
  no_cache_space = 201,     // not enough free KV pages for the session
  quota = 202,              // a per-key or per-address bound was reached
  deadline_passed = 203,    // dropped before computing: nobody waits for it any more
  too_many_sessions = 204,  // the peer's session bound was reached
  out_of_memory = 205,      // an allocation that was sized beforehand failed

  // Model and text: another peer will not help.
  model_not_found = 300,       // no such folder or file
  model_malformed = 301,       // a file of the model is damaged or lies about itself
  model_unsupported = 302,     // well-formed, but needs something FarMesh lacks
  config_mismatch = 303,       // config.json contradicts the tensors
  tokenizer_malformed = 304,   // a tokenizer file is damaged or has holes
  template_unsupported = 305,  // the chat template uses an unknown construct
  context_exceeded = 306,      // prompt plus generated tokens exceed the model's context
  span_unavailable = 307,      // this peer does not hold the asked layers
  no_route = 308,              // the known peers do not cover every layer
  compute_failed = 309,        // libtorch or a kernel raised an error
  engine_unavailable =
      310,                 // libfarmesh_torch cannot be loaded, or conflicts with another libtorch
  session_unknown = 311,   // no such session on this peer (closed, or evicted when idle)
  head_unavailable = 312,  // no local head and no peer offers one
  hub_refused = 313,       // the hub refuses: no such model, a token that is missing, an error
  hub_changed = 314,       // the hub's files are others than those that were begun with
  weights_damaged = 315,   // bytes that came contradict the model's hashes
  disk_full = 316,         // no room for what would be downloaded
  hash_unknown = 317,      // parts of a model, and nobody told the hash of the whole

  // Ledger: sessions, money and accounts in the database.
  ledger_unavailable = 400,   // the database cannot be reached, or stays locked
  ledger_conflict = 401,      // the same id came before with other content
  ledger_damaged = 402,       // a row holds what cannot be, or contradicts another
  ledger_newer = 403,         // the database was migrated by a newer version
  not_found = 404,            // no such session, node, key or batch
  receipt_invalid = 405,      // a receipt or grant that is unsigned, expired or beside the point
  insufficient_credit = 406,  // the account cannot cover what would be reserved
  amount_invalid = 407,       // not an exact amount of $FAR, or beyond the largest one
  grant_required = 408,       // this node serves only what a signed grant pays for

  // Use: the caller asked for something impossible.
  invalid_argument = 500,  // a value outside its documented range
  cancelled = 501,         // the caller cancelled
  config_invalid = 502,    // a setting, flag or file cannot be used
  unsupported = 503,       // asked of a build or platform that lacks it

  // Chain: wallets, signatures and the EVM chain that pays.
  chain_unavailable = 600,         // no endpoint of the chain answered in time
  chain_mismatch = 601,            // an endpoint serves another chain than the one asked for
  chain_answer_malformed = 602,    // an answer breaks JSON-RPC, its types or its bounds
  chain_refused = 603,             // the endpoint refused the request; the detail has its number
  call_reverted = 604,             // the contract reverts this call
  nonce_taken = 605,               // a transaction with this nonce is mined already
  fee_too_low = 606,               // the offered fee neither enters nor replaces in the pool
  funds_insufficient = 607,        // the sender cannot pay value and gas
  transaction_known = 608,         // the pool holds exactly this transaction already
  evm_encoding_invalid = 609,      // not the RLP, ABI, number or hexadecimal text it should be
  wallet_invalid = 610,            // not an address, or one with a wrong checksum
  wallet_signature_invalid = 611,  // malformed, or made by another wallet
  wallet_statement_invalid = 612,  // malformed, or of another node, chain, domain or time
  keystore_invalid = 613,          // damaged, of an unknown kind, or too costly to open
  password_wrong = 614,            // the password does not open the keystore
};

/// The stable lower-case name, such as "no_route"; "unknown" for a number not listed above.
FARMESH_API std::string_view name(Errc code) noexcept;

/// True when asking another peer can help: transport and capacity failures, and a peer that
/// speaks wrongly. False when every peer would answer the same.
FARMESH_API bool should_reroute(Errc code) noexcept;

/// The Errc with this number, or `remote_unknown` when no such number exists.
FARMESH_API Errc errc_from_number(std::uint16_t number) noexcept;

}  // namespace farmesh::inline FARMESH_ABI
