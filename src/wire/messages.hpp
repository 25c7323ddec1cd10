// The headers of all verbs as plain structs, and their codecs.
//
// encode() cannot fail: display text (model_id, software, detail) is cut and made printable;
// anything else beyond its bound is refused by the receiver. decode<T>() verifies the FlatBuffer,
// then every bound stated here, and fails with bad_header; text must be printable UTF-8. Unknown
// fields are skipped, so that a newer peer may add some. Safe from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <farmesh/activations.hpp>
#include <farmesh/errors.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>

#include "base/bytes.hpp"
#include "base/node_id.hpp"
#include "base/types.hpp"
#include "wire/frame.hpp"

namespace farmesh::wire {

inline constexpr std::size_t kMaxTextField = 256;        // ids, addresses, error details
inline constexpr std::size_t kMaxHops = 128;             // in one route
inline constexpr std::uint32_t kMaxGroups = 255;         // of sessions, that fill a route
inline constexpr std::size_t kMaxPageNames = 2'048;      // in one open
inline constexpr std::uint32_t kMaxPosition = 1u << 24;  // tokens of context, any model
inline constexpr std::uint32_t kMaxStepRows = 8'192;
inline constexpr std::uint32_t kMaxLayers = 1'024;  // in one model
inline constexpr std::uint32_t kMaxHiddenSize = 1u << 18;
inline constexpr std::uint32_t kMaxVocabSize = 1u << 24;
inline constexpr std::size_t kMaxGrantBytes = 4'096;
inline constexpr std::size_t kMaxJoinBytes = 512;
inline constexpr std::size_t kMaxPeers = 128;  // named in one generate
inline constexpr std::size_t kMaxLogitBias = 1'024;
inline constexpr std::size_t kMaxStopTokens = 1'024;
inline constexpr std::size_t kMaxTopTokens = 20;  // alternatives told with one token

using farmesh::NodeId;

/// What a peer serves. Empty span and no head: a client.
struct Service {
  std::string model_id;        // display name
  ModelHash model_hash;        // all zero: none
  std::string numerics_class;  // such as "bf16/exact-2/fma"
  Span span;                   // layers held
  bool head = false;           // offers generate
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t vocab_size = 0;
  DType residual = DType::bf16;
  std::uint32_t page_tokens = 0;
};

/// First frame both ways. The answering side replies with its own.
struct Hello {
  std::uint8_t min_version = kMinProtocolVersion;
  std::uint8_t max_version = kProtocolVersion;
  NodeId node_id{};
  std::string software;        // "farmesh 0.1.0"
  std::string listen_address;  // where others may dial this node; empty: nowhere
  Service service;
  std::vector<std::uint8_t> join;  // the pass to a private mesh; empty in the open one
};

/// Opens `session` on a peer, or moves it to a newer `epoch`. The link it arrives on becomes
/// the session's way back to the driver; when that link ends, the session is closed.
struct Open {
  SessionId session;
  std::uint32_t epoch = 0;
  Span span;                           // layers to run, inside the peer's
  std::uint32_t max_positions = 0;     // cache to promise, in tokens
  ModelHash model_hash;                // must equal the peer's
  std::string numerics_class;          // must equal the peer's unless empty
  std::vector<PageName> page_names;    // of the prompt's full pages, first to last
  std::string traceparent;             // W3C trace context, may be empty
  std::vector<std::uint8_t> grant;     // the payer's, signed (receipt.hpp); empty: nobody pays
  std::uint32_t prompt_positions = 0;  // rows below are the prompt's: told apart in receipts
  Activations activations = Activations::residual;  // what its rows travel in
};

struct OpenReply {
  std::uint32_t held_positions = 0;  // prefix already in cache: whole pages found by name
  std::uint32_t window_steps = 0;    // steps of this session the peer queues before `busy`
  std::uint32_t max_step_rows = 0;   // rows it takes in one step
  Activations activations = Activations::residual;  // as asked for; older peers know no other
};

/// One stage of a route, as the stage before it needs to know it.
struct Hop {
  std::string address;  // where to dial
  Span span;
  std::string standby;  // gets a copy of each step that is sent here; empty: nobody
};

/// What one stage did with a step, appended by it.
struct HopTime {
  std::uint32_t queue_us = 0;    // waiting for a batch
  std::uint32_t compute_us = 0;  // in forward passes that held rows of the step
  std::uint32_t batch_rows = 0;  // rows of all sessions in the last of them
};

enum class Want : std::uint8_t { nothing = 0, last_row = 1, all_rows = 2 };

/// Payload: [count, hidden] in `dtype`, which may be i8: in blocks then (row_codec.hpp). The
/// receiving peer runs its span, then sends the frame on to route[0] with the rest of the route;
/// with an empty route it answers the driver.
struct Step {
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;  // of the first row
  std::uint32_t count = 0;
  DType dtype = DType::bf16;
  Want want = Want::last_row;
  bool replay = false;          // rebuilds a cache; earns nothing
  std::uint32_t budget_ms = 0;  // dropped uncomputed when it waited longer; 0: no limit
  std::vector<Hop> route;       // stages after this one
  std::vector<HopTime> times;   // of the stages before this one
  // Round trips of those stages to the ones after them, as their links measured; 0: not yet.
  std::vector<std::uint32_t> next_us;
  bool standby = false;  // a copy: keeps a spare cache warm, and moves nothing on
  // So many groups of sessions keep the route's stages busy, as the driver measured; 0: not yet.
  std::uint8_t groups = 0;
};

/// Payload: the wanted rows, in `dtype` as Step has it.
struct StepReply {
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;
  std::uint32_t count = 0;  // rows computed
  std::uint32_t rows = 0;   // rows in the payload
  DType dtype = DType::bf16;
  bool replay = false;
  std::vector<HopTime> times;          // one a stage, in route order
  std::vector<std::uint32_t> next_us;  // as Step has it
  bool standby = false;                // answers a copy
};

/// Forget positions from `position` on. Also raises the session's epoch.
struct Truncate {
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;
};

/// Send your stored outputs for [from, to) again, as replay steps along `route`.
struct Replay {
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::vector<Hop> route;  // the stages to rebuild; the last one answers the driver
};

struct HistoryQuery {
  SessionId session;
};
struct HistoryReply {
  std::uint32_t positions = 0;     // in the KV cache
  std::uint32_t stored_begin = 0;  // outputs kept for replay: [stored_begin, stored_end)
  std::uint32_t stored_end = 0;
  bool tells_received = false;  // `received` was filled in
  std::uint32_t received = 0;   // positions that are computed or wait here to be
};

struct Close {
  SessionId session;
  std::uint32_t positions = 0;  // rows beyond were not used: what receipts are settled by
};

struct Ping {
  std::uint64_t nonce = 0;
};
struct Pong {
  std::uint64_t nonce = 0;
  std::uint32_t queued_rows = 0;
  std::uint32_t free_pages = 0;
  std::uint32_t sessions = 0;
};

/// Answers a request (its stream), or tells a session's driver that it cannot go on.
struct ErrorMessage {
  Errc code = Errc::ok;
  std::uint16_t number = 0;  // as received; differs from `code` only for remote_unknown
  std::string detail;        // at most kMaxTextField bytes, no prompt, path or token
  bool about_session = false;
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;
  std::string hop;  // next_hop_lost: the address that did not answer
};

/// Payload: prompt ids, u32. Asks the head's host to drive; answered by `token` frames on the
/// same stream until one is done. Closing the stream (verb close, this session) cancels.
struct Generate {
  SessionId session;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t emitted_tokens = 0;  // the last of them were generated before, by another head
  std::uint32_t max_tokens = 0;
  SamplingOptions sampling;
  std::vector<TokenId> stop_tokens;
  std::vector<std::string> peers;  // addresses to route over, besides those the host knows
  bool warm_standby = false;       // keep a spare peer's cache warm behind every stage
  std::uint32_t max_draft = 0;     // tokens to guess ahead and verify in one step, at most
  Activations activations = Activations::residual;  // for the session it drives
};

struct TopToken {
  TokenId id = 0;
  float logprob = 0;
};

enum class Finish : std::uint8_t { none = 0, stop = 1, length = 2, cancelled = 3 };

struct TokenMessage {
  SessionId session;
  std::uint32_t index = 0;  // among generated tokens
  TokenId id = 0;
  float logprob = 0;
  std::vector<TopToken> top;
  Finish finish = Finish::none;   // other than none: the stream ends with this frame
  bool has_token = true;          // false: only the end is told
  std::vector<Hop> route;         // with the first token and after a change
  std::vector<HopTime> times;     // of the step behind this token
  bool numerics_changed = false;  // some stage computes in another class than the first did
};

HeaderBytes encode(const Hello& message);
HeaderBytes encode(const Open& message);
HeaderBytes encode(const OpenReply& message);
HeaderBytes encode(const Step& message);
HeaderBytes encode(const StepReply& message);
HeaderBytes encode(const Truncate& message);
HeaderBytes encode(const Replay& message);
HeaderBytes encode(const HistoryQuery& message);
HeaderBytes encode(const HistoryReply& message);
HeaderBytes encode(const Close& message);
HeaderBytes encode(const Ping& message);
HeaderBytes encode(const Pong& message);
HeaderBytes encode(const ErrorMessage& message);
HeaderBytes encode(const Generate& message);
HeaderBytes encode(const TokenMessage& message);

/// decode<Open>(frame.header) and so on, for every struct above that has an encode(). `header`
/// begins on an 8-byte boundary, as HeaderBytes does.
template <class Message>
Result<Message> decode(ByteView header);

/// Fails with bad_shape unless the payload is `rows` rows of `columns` elements of `dtype`.
Result<void> check_tensor(const Payload& payload, std::uint32_t rows, std::uint32_t columns,
                          DType dtype);
/// Fails with bad_payload when an element is NaN or infinite.
Result<void> check_finite(ByteView values, DType dtype);

}  // namespace farmesh::wire
