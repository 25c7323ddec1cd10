// FarMesh: ask a question, and its answer streams back. What the Python and TypeScript packages
// are.
//
//   auto mesh = farmesh::FarMesh::connect({.api_key = "…"});
//   farmesh::MeshStream answer = mesh->chat("What is a mesh?");
//   for (const std::string& text : answer) std::cout << text << std::flush;
//
// connect() asks a coordinator over HTTP; open() talks to the peers itself, without one. Both give
// the same calls. A FarMesh is thread-safe; a MeshStream is read by one thread, and close() may
// come from any. Each stream has a thread of the library's own while it runs. After fork() the
// child may only destroy these objects: everything else fails with unsupported.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <farmesh/export.hpp>
#include <farmesh/model.hpp>
#include <farmesh/money.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

namespace farmesh::sdk {
class Backend;
}  // namespace farmesh::sdk

namespace farmesh::inline FARMESH_ABI {

/// What to do about a failure: the SDKs have an exception class for each.
enum class MeshFailure : std::uint8_t {
  invalid_request = 0,   // a value that is refused, here or there (400, 413)
  authentication = 1,    // no key, or a wrong one (401)
  payment_required = 2,  // the account's credit does not cover it (402)
  permission = 3,        // the key may not do this (403)
  not_found = 4,         // no such model or request (404)
  conflict = 5,          // (409)
  rate_limited = 6,      // too many requests; retry_after says when to come again (429)
  unavailable = 7,       // the mesh or its queue cannot take it now (502, 503, 504)
  server = 8,            // a fault of the other side (any other status)
  connection = 9,        // no connection, a lost one, or an answer that is none
  timeout = 10,          // silence
  failed = 11,           // anything else; the code tells
};
FARMESH_API std::string_view name(MeshFailure kind) noexcept;

struct MeshError {
  MeshFailure kind = MeshFailure::failed;
  /// The coordinator's code ("insufficient_credit", docs/http-api.md), or the library's own error
  /// name ("connection_lost", docs/errors.md).
  std::string code;
  std::string message;     // for people; holds no key
  std::string request_id;  // what an operator can look up; may be empty
  int status = 0;          // of HTTP; 0 when there was none
  std::optional<std::chrono::seconds> retry_after;

  /// "insufficient_credit: the account … (request chatcmpl-…)"
  FARMESH_API std::string to_string() const;
};

/// The library's own failure in these words.
FARMESH_API MeshError mesh_error(const Error& error);

/// A value or a MeshError, shaped like Result<T>.
template <class T>
class [[nodiscard]] MeshResult {
 public:
  MeshResult(T value) : state_(std::in_place_index<0>, std::move(value)) {}          // NOLINT
  MeshResult(MeshError error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  explicit operator bool() const noexcept { return state_.index() == 0; }
  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }
  const MeshError& error() const& noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, MeshError> state_;
};

struct ConnectOptions {
  std::string api_key;   // empty: FARLABS_API_KEY, and without that the public tier
  std::string base_url;  // empty: FARLABS_BASE_URL, else http://localhost:8100
  std::string model;     // full id or alias; empty: the coordinator's default
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds timeout{120'000};  // of silence, while an answer is awaited or read
  /// Tries besides the first one, in a row without any progress: after a refused or lost connection
  /// and the statuses 429, 502, 503 and 504. A stream goes on where it broke; no text comes twice.
  int max_retries = 4;
  std::chrono::milliseconds retry_wait{250};        // before the first of them, then doubled
  std::chrono::milliseconds max_retry_wait{8'000};  // asked to wait longer, it fails at once
  std::string ca_file;                              // PEM; empty: the system's authorities
};

/// Of one call. What the coordinator would refuse is refused by it, as docs/http-api.md tells.
struct AskOptions {
  std::string model;  // empty: the FarMesh's own
  std::uint32_t max_tokens = 512;
  SamplingOptions sampling;           // but for `seed` and `top_logprobs`
  std::optional<std::uint64_t> seed;  // nothing: another one each time
  std::vector<std::string> stop;      // the text ends before the first of these
  bool ignore_eos = false;
  std::optional<Far> max_cost;  // fewer tokens rather than a higher cost
};

/// A node that made tokens of an answer.
struct NodeUse {
  std::string node_id;  // "local" for this process
  Span layers;

  friend bool operator==(const NodeUse&, const NodeUse&) = default;
};

struct MeshUsage {
  std::uint64_t prompt_tokens = 0;  // 0 until it is told, at the end
  std::uint64_t tokens = 0;         // generated; while the stream runs, pieces of text so far
  double ttft_ms = 0;               // from the call to the first text
  FinishReason finish = FinishReason::none;
  std::optional<Far> cost;  // known at the end
  /// In route order, known at the end; of a resumed stream, who made what came since.
  std::vector<NodeUse> nodes_used;
  std::uint32_t resumed = 0;  // times that a broken stream was gone on with
};

/// An answer as it is made.
class FARMESH_API MeshStream {
 public:
  MeshStream(MeshStream&&) noexcept;
  MeshStream& operator=(MeshStream&&) noexcept;
  /// As close(); then waits for the stream's thread, which only a name lookup under way can delay.
  ~MeshStream();

  /// Waits for the next text, in whole UTF-8 characters and never empty; nothing at the end. A
  /// failure is told once everything before it was read, and again by each later call.
  MeshResult<std::optional<std::string>> next();

  /// Waits at most so long until next() will not; whether that is so. From any thread.
  bool wait(std::chrono::milliseconds at_most) const;

  /// Calls `wake` once, as soon as next() will not wait: now, on this thread, or later on one of
  /// the library's, where it must return at once. A later call replaces an earlier one that still
  /// waits. For event loops, which must not wait.
  void on_ready(std::function<void()> wake);

  /// Reads to the end. The whole answer, with what was read before.
  MeshResult<std::string> text();

  /// Ends the answer here and at the other end; what was not read is dropped. From any thread;
  /// idempotent; does not wait.
  void close();

  MeshUsage usage() const;                 // from any thread
  std::string request_id() const;          // empty until the coordinator has told it
  std::optional<MeshError> error() const;  // why it ended early

  /// `for (const std::string& text : stream)`: ends at the end and at a failure, told by error().
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = std::string;
    using difference_type = std::ptrdiff_t;

    explicit iterator(MeshStream& stream) : stream_(&stream) { ++*this; }
    const std::string& operator*() const noexcept { return *text_; }
    iterator& operator++() {
      MeshResult<std::optional<std::string>> next = stream_->next();
      text_ = next ? *std::move(next) : std::nullopt;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& at, std::default_sentinel_t) noexcept {
      return !at.text_.has_value();
    }

   private:
    MeshStream* stream_;
    std::optional<std::string> text_;
  };
  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  struct Impl;
  explicit MeshStream(std::unique_ptr<Impl> impl) noexcept;  // made by FarMesh

 private:
  std::unique_ptr<Impl> impl_;
};

struct MeshModel {
  std::string model_id;
  std::uint32_t active_nodes = 0;
  Far price_per_token;
  bool available = false;  // every layer has a node
};

struct MeshStatus {
  std::string model_id;
  std::uint32_t active_nodes = 0;
  std::uint32_t active_sessions = 0;
  Far price_per_token;
  bool connected = false;
};

struct DailyEarning {
  std::string date;  // "2026-11-23"
  Far amount;
};

struct MeshEarnings {
  std::string wallet;
  Far total;
  Far pending;  // earned, not yet paid out
  std::uint64_t tokens_served = 0;
  std::uint32_t active_nodes = 0;
  double avg_uptime_percent = 0;
  std::vector<DailyEarning> history;
};

class FARMESH_API FarMesh {
 public:
  /// Sends nothing yet. Fails with invalid_request: a base_url that is none, a key that no header
  /// can hold.
  static MeshResult<FarMesh> connect(ConnectOptions options = {});

  /// The mesh itself: needs the model's folder (`options.folder`: config.json, tokenizer, and the
  /// head's weights unless `remote_head`) and somewhere to begin: `options.discovery.bootstrap` or
  /// `options.peers`. With `options.draft_model` every answer is guessed ahead, and the same.
  /// Blocks while it loads and dials.
  static MeshResult<FarMesh> open(ModelOptions options);

  FarMesh(FarMesh&&) noexcept;
  FarMesh& operator=(FarMesh&&) noexcept;
  ~FarMesh();  // streams go on

  /// Answers `message`, or the conversation so far, through the model's chat template. Everything
  /// that can go wrong is told by the stream.
  MeshStream chat(std::string_view message, const AskOptions& options = {}) const;
  MeshStream chat(const std::vector<ChatMessage>& messages, const AskOptions& options = {}) const;

  /// Continues `prompt` as it stands.
  MeshStream generate(std::string_view prompt, const AskOptions& options = {}) const;

  MeshResult<std::vector<MeshModel>> models() const;
  /// `model`: empty for the FarMesh's own.
  MeshResult<MeshStatus> status(const std::string& model = {}) const;
  /// What the nodes of `wallet` (0x…) have earned. Asked of a coordinator only.
  MeshResult<MeshEarnings> earnings(const std::string& wallet) const;

 private:
  explicit FarMesh(std::shared_ptr<sdk::Backend> backend) noexcept;
  std::shared_ptr<sdk::Backend> backend_;
};

}  // namespace farmesh::inline FARMESH_ABI
