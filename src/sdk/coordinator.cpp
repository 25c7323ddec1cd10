// A coordinator over HTTP: its streams, gone on with where they break, and its lists.
#include <cstdlib>
#include <mutex>
#include <utility>

#include <poll.h>

#include "http/client.hpp"
#include "http/event_parser.hpp"
#include "http/url.hpp"
#include "sdk/backend.hpp"
#include "sdk/codec.hpp"
#include "sdk/retries.hpp"

namespace farmesh::sdk {
namespace {

constexpr const char* kDefaultUrl = "http://localhost:8100";
constexpr std::size_t kMaxRefusalBytes = 64 * 1024;

MeshError malformed(std::string message) {
  MeshError error;
  error.kind = MeshFailure::connection;
  error.code = name(Errc::bad_http);
  error.message = std::move(message);
  return error;
}

std::optional<std::chrono::seconds> retry_after(const http::Headers& headers) {
  const auto value = headers.get("Retry-After");
  if (!value || value->empty() || value->size() > 9) return std::nullopt;
  std::int64_t seconds = 0;
  for (const char c : *value) {
    if (c < '0' || c > '9') return std::nullopt;  // a date: the own pace will do
    seconds = seconds * 10 + (c - '0');
  }
  return std::chrono::seconds(seconds);
}

MeshError refusal_of(const http::ClientReply& head, std::string_view body) {
  MeshError error = read_refusal(head.status, body);
  error.retry_after = retry_after(head.headers);
  if (error.request_id.empty()) error.request_id = head.headers.get("X-Request-Id").value_or("");
  return error;
}

/// False when it was cancelled before the time was over.
bool sleep(std::chrono::milliseconds time, const http::Cancellation& cancellation) {
  pollfd watched{cancellation.descriptor(), POLLIN, 0};
  return ::poll(&watched, 1, static_cast<int>(time.count())) == 0;
}

class Coordinator final : public Backend, public std::enable_shared_from_this<Coordinator> {
 public:
  Coordinator(ConnectOptions options, http::ClientOptions client)
      : options_(std::move(options)), client_(std::move(client)) {}

  MeshResult<std::shared_ptr<Turn>> start(Ask ask) override;
  MeshResult<std::vector<MeshModel>> models() override { return read("/models", read_models, {}); }
  MeshResult<MeshStatus> status(const std::string& model) override {
    return status_of(model.empty() ? options_.model : model, {});
  }
  MeshResult<MeshEarnings> earnings(const std::string& wallet) override {
    return read("/api/nodes/earnings/" + http::percent_encode(wallet), read_earnings, {});
  }

  /// What a request says: the asked for, the FarMesh's own, or the coordinator's default.
  MeshResult<std::string> model_for(const std::string& asked,
                                    const http::Cancellation& cancellation) {
    if (!asked.empty()) return asked;
    if (!options_.model.empty()) return options_.model;
    {
      const std::lock_guard lock(mutex_);
      if (!default_model_.empty()) return default_model_;
    }
    const MeshResult<MeshStatus> status = status_of({}, cancellation);
    if (!status) return status.error();
    const std::lock_guard lock(mutex_);
    return default_model_ = status->model_id;
  }

  http::ClientRequest request(std::string method, const std::string& path) const {
    http::ClientRequest request;
    request.method = std::move(method);
    request.url = options_.base_url + path;
    if (!options_.api_key.empty()) {
      request.headers.add("Authorization", "Bearer " + options_.api_key);
    }
    return request;
  }

  const ConnectOptions& options() const noexcept { return options_; }
  http::Client& client() noexcept { return client_; }

 private:
  MeshResult<MeshStatus> status_of(const std::string& model,
                                   const http::Cancellation& cancellation) {
    const std::string query = model.empty() ? "" : "?model_id=" + http::percent_encode(model);
    return read("/mesh/status" + query, read_status, cancellation);
  }

  template <class T>
  MeshResult<T> read(const std::string& path, std::optional<T> (*parse)(std::string_view),
                     const http::Cancellation& cancellation) {
    Retries retries(options_);
    for (;;) {
      const auto reply = client_.send(request("GET", path), cancellation);
      if (reply && reply->status == 200) {
        std::optional<T> parsed = parse(reply->body);
        if (!parsed) return malformed("The answer to GET " + path + " is not what it should be.");
        return *std::move(parsed);
      }
      const MeshError error = reply ? refusal_of(*reply, reply->body) : mesh_error(reply.error());
      const auto wait = retries.after(error);
      if (!wait || !sleep(*wait, cancellation)) return error;
    }
  }

  const ConnectOptions options_;
  http::Client client_;
  std::mutex mutex_;
  std::string default_model_;
};

class CoordinatorTurn final : public Turn {
 public:
  CoordinatorTurn(std::shared_ptr<Coordinator> at, Ask ask)
      : at_(std::move(at)), ask_(std::move(ask)) {}

  void cancel() override { cancellation_.cancel(); }

  void run(StreamState& state) override {
    const auto model = at_->model_for(ask_.options.model, cancellation_);
    if (!model) return state.fail(model.error());
    const auto body = request_body(ask_, *model);
    if (!body) return state.fail(body.error());
    Retries retries(at_->options());
    for (;;) {
      const std::optional<MeshError> error = hear(*body, state);
      if (!error) return;
      if (std::exchange(progressed_, false)) retries.progressed();
      if (is_resumption_refused(*error)) return state.fail(unresumed(*error));
      broke_ = *error;
      const auto wait = retries.after(*error);
      if (!wait) return state.fail(*error);
      if (!state.sleep(*wait)) return;
    }
  }

 private:
  /// One exchange. Nothing once the answer has ended, or nobody wants it any more.
  std::optional<MeshError> hear(const std::string& body, StreamState& state) {
    http::ClientRequest request = at_->request("POST", path());
    request.headers.add("Content-Type", "application/json");
    request.headers.add("Accept", "text/event-stream");
    if (!last_id_.empty()) request.headers.add("Last-Event-ID", last_id_);
    request.body = body;
    http::ClientReply head;
    std::string refusal;
    Result<void> fed;
    std::optional<MeshError> problem;
    http::EventParser parser(
        [&](const http::ReceivedEvent& event) { return take(event, state, problem); });
    const auto on_head = [&](const http::ClientReply& reply) {
      head = reply;
      const auto type = reply.headers.get("Content-Type").value_or("");
      if (reply.status == 200 && !type.starts_with("text/event-stream")) {
        problem = malformed("The answer is no stream of events.");
      } else if (reply.status == 200 && !last_id_.empty()) {
        state.count_resumption();
      }
      return !problem;
    };
    const auto on_body = [&](std::string_view piece) {
      if (head.status == 200) {
        fed = parser.feed(piece);
      } else {
        refusal.append(piece.substr(0, kMaxRefusalBytes - refusal.size()));
      }
      return bool(fed);
    };
    const auto reply = at_->client().stream(request, on_head, on_body, cancellation_);
    if (done_ || state.closed()) return std::nullopt;
    if (finish_ != FinishReason::none && usage_)
      return end(state);  // only its last word is missing
    if (problem) return problem;
    if (!fed) return mesh_error(fed.error());
    if (head.status != 0 && head.status != 200) return refusal_of(head, refusal);
    if (!reply) return mesh_error(reply.error());
    return mesh_error({Errc::connection_lost, "The stream ended before the answer did."});
  }

  /// False ends the exchange.
  bool take(const http::ReceivedEvent& event, StreamState& state,
            std::optional<MeshError>& problem) {
    if (done_) return true;  // the connection is worth keeping
    if (event.data == "[DONE]") {
      end(state);
      return true;
    }
    std::optional<StreamChunk> chunk = read_chunk(event.data);
    if (!chunk) {
      problem = malformed("An event of the stream is not what it should be.");
      return false;
    }
    if (chunk->error) {
      problem = std::move(chunk->error);
      return false;
    }
    state.set_request_id(chunk->id);
    if (!chunk->text.empty() && !state.push(std::move(chunk->text))) return false;
    if (chunk->finish != FinishReason::none) finish_ = chunk->finish;
    if (chunk->usage) usage_ = std::move(chunk->usage);
    last_id_ = event.id;
    return progressed_ = true;
  }

  std::optional<MeshError> end(StreamState& state) {
    done_ = true;
    MeshUsage usage = usage_.value_or(MeshUsage{});
    usage.finish = finish_;
    state.finish(std::move(usage));
    return std::nullopt;
  }

  bool is_resumption_refused(const MeshError& error) const {
    return !last_id_.empty() && broke_ &&
           (error.kind == MeshFailure::not_found || error.kind == MeshFailure::conflict);
  }

  /// What broke it is what counts; that nobody can go on with it is why it is told.
  MeshError unresumed(const MeshError& refusal) const {
    MeshError error = *broke_;
    error.message += " It could not be gone on with (" + refusal.code + ").";
    return error;
  }

  const char* path() const {
    return std::holds_alternative<std::string>(ask_.prompt) ? "/v1/completions"
                                                            : "/v1/chat/completions";
  }

  const std::shared_ptr<Coordinator> at_;
  const Ask ask_;
  http::Cancellation cancellation_;
  // The running thread's:
  std::string last_id_;  // of the last event that was passed on
  std::optional<MeshError> broke_;
  FinishReason finish_ = FinishReason::none;
  std::optional<MeshUsage> usage_;
  bool progressed_ = false;
  bool done_ = false;
};

MeshResult<std::shared_ptr<Turn>> Coordinator::start(Ask ask) {
  return std::shared_ptr<Turn>(
      std::make_shared<CoordinatorTurn>(shared_from_this(), std::move(ask)));
}

void take_environment(std::string& value, const char* variable) {
  const char* set = std::getenv(variable);
  if (value.empty() && set != nullptr) value = set;
}

bool is_visible(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c >= 127) return false;
  }
  return true;
}

}  // namespace

MeshResult<std::shared_ptr<Backend>> make_coordinator_backend(ConnectOptions options) {
  take_environment(options.api_key, "FARLABS_API_KEY");
  take_environment(options.base_url, "FARLABS_BASE_URL");
  if (options.base_url.empty()) options.base_url = kDefaultUrl;
  if (!is_visible(options.api_key)) {
    return invalid_request("The API key holds spaces, line breaks or what is no ASCII.");
  }
  while (options.base_url.ends_with('/')) options.base_url.pop_back();
  const auto url = http::parse_url(options.base_url);
  if (!url || !url->query.empty()) {
    return invalid_request("The base URL is no http:// or https:// address.");
  }
  if (options.max_retries < 0 || options.max_retries > 1'000 ||
      options.timeout <= std::chrono::milliseconds(0) ||
      options.connect_timeout <= std::chrono::milliseconds(0) ||
      options.retry_wait < std::chrono::milliseconds(0) ||
      options.max_retry_wait < std::chrono::milliseconds(0) ||
      options.max_retry_wait > std::chrono::hours(24)) {
    return invalid_request("A timeout or number of retries out of range.");
  }
  http::ClientOptions client;
  client.connect_timeout = options.connect_timeout;
  client.read_timeout = options.timeout;
  client.ca_file = options.ca_file;
  client.user_agent = "farlabs";
  return std::shared_ptr<Backend>(
      std::make_shared<Coordinator>(std::move(options), std::move(client)));
}

}  // namespace farmesh::sdk
