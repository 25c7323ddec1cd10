// An OpenAI-compatible server's stream as a turn's tokens.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/thread.hpp"
#include "gateway/fallback.hpp"
#include "http/event_parser.hpp"

namespace farmesh::gateway {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxWaiting = 64;  // pieces that wait for a slow reader

json body_of(const UpstreamOptions& upstream, const TurnInput& input) {
  const GenerateOptions& options = input.options;
  const SamplingOptions& sampling = options.sampling;
  json body{{"model", upstream.model},
            {"stream", true},
            {"max_tokens", options.max_tokens},
            {"temperature", sampling.temperature},
            {"top_p", sampling.top_p},
            {"seed", sampling.seed},
            {"presence_penalty", sampling.presence_penalty},
            {"frequency_penalty", sampling.frequency_penalty}};
  if (!options.stop.empty()) body["stop"] = options.stop;
  if (const auto* text = std::get_if<std::string>(&input.prompt)) {
    body["prompt"] = *text;
    return body;
  }
  json& messages = body["messages"] = json::array();
  for (const ChatMessage& message : std::get<std::vector<ChatMessage>>(input.prompt)) {
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return body;
}

class UpstreamTokens final : public TurnTokens {
 public:
  UpstreamTokens(std::shared_ptr<http::Client> client, http::ClientRequest request,
                 std::uint32_t num_layers, std::uint32_t max_tokens)
      : client_(std::move(client)), max_tokens_(max_tokens) {
    usage_.routes.push_back({0, {{"local", {0, num_layers}, 0}}});
    thread_ = start_thread("upstream", [this, request = std::move(request)] { fetch(request); });
  }
  ~UpstreamTokens() override {
    cancel();
    thread_.join();
  }

  Result<std::optional<Token>> next() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !waiting_.empty() || ended_ || cancelled_; });
    if (cancelled_) return std::optional<Token>();
    if (waiting_.empty()) {
      if (error_) return *error_;
      return std::optional<Token>();
    }
    Token token;
    token.text = std::move(waiting_.front());
    waiting_.pop_front();
    ++usage_.tokens;
    ++usage_.routes.front().tokens;
    lock.unlock();
    changed_.notify_all();
    return std::optional<Token>(std::move(token));
  }

  void cancel() override {
    {
      const std::lock_guard lock(mutex_);
      if (ended_ && waiting_.empty()) return;
      cancelled_ = true;
      usage_.finish = FinishReason::cancelled;
    }
    cancellation_.cancel();
    changed_.notify_all();
  }

  Usage usage() const override {
    const std::lock_guard lock(mutex_);
    return usage_;
  }
  Origin origin() const override { return Origin::upstream; }

 private:
  void fetch(const http::ClientRequest& request) {
    http::EventParser parser([this](const http::ReceivedEvent& event) { return take(event.data); });
    int status = 0;
    const auto on_head = [&status](const http::ClientReply& head) {
      status = head.status;
      return status == 200;
    };
    const auto on_body = [&parser](std::string_view piece) { return bool(parser.feed(piece)); };
    const auto reply = client_->stream(request, on_head, on_body, cancellation_);
    {
      const std::lock_guard lock(mutex_);
      if (finish_ != FinishReason::none) {
        if (usage_.finish == FinishReason::none) usage_.finish = finish_;
      } else if (!cancelled_) {
        // Its own words may quote the request.
        error_ = Error{Errc::connection_lost,
                       status != 0 && status != 200
                           ? "the fallback answered with status " + std::to_string(status)
                           : "the fallback's stream broke"};
      }
      ended_ = true;
    }
    changed_.notify_all();
  }

  // False ends the stream.
  bool take(const std::string& data) {
    if (data == "[DONE]") return false;
    const json event = json::parse(data, nullptr, false);
    if (!event.is_object() || !event.contains("choices") || !event["choices"].is_array()) {
      return false;
    }
    if (event["choices"].empty()) return true;
    const json& choice = event["choices"].front();
    if (!choice.is_object()) return false;
    const json delta = choice.value("delta", json::object());
    const json content = delta.is_object() && delta.contains("content")
                             ? delta["content"]
                             : choice.value("text", json());
    std::unique_lock lock(mutex_);
    if (content.is_string() && !content.get_ref<const std::string&>().empty()) {
      changed_.wait(lock, [this] { return waiting_.size() < kMaxWaiting || cancelled_; });
      if (cancelled_) return false;
      waiting_.push_back(content.get<std::string>());
      if (++taken_ == max_tokens_) finish_ = FinishReason::length;
    }
    const json reason = choice.value("finish_reason", json());
    if (reason.is_string() && finish_ == FinishReason::none) {
      finish_ = reason == "length" ? FinishReason::length : FinishReason::stop;
    }
    lock.unlock();
    changed_.notify_all();
    return taken_ < max_tokens_;
  }

  const std::shared_ptr<http::Client> client_;
  const std::uint32_t max_tokens_;
  http::Cancellation cancellation_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> waiting_;
  Usage usage_;
  std::optional<Error> error_;
  FinishReason finish_ = FinishReason::none;  // as the server told it
  std::uint32_t taken_ = 0;                   // the fetching thread's
  bool ended_ = false;
  bool cancelled_ = false;
  std::thread thread_;
};

class RefusedTokens final : public TurnTokens {
 public:
  Result<std::optional<Token>> next() override {
    return Error{Errc::no_route, "the fallback takes no token ids"};
  }
  void cancel() override {}
  Usage usage() const override { return {}; }
};

}  // namespace

UpstreamModel::UpstreamModel(UpstreamOptions options, std::uint32_t num_layers)
    : options_(std::move(options)),
      num_layers_(num_layers),
      client_(std::make_shared<http::Client>(options_.client)) {}

std::unique_ptr<TurnTokens> UpstreamModel::start(const TurnInput& input) {
  // What was told cannot be gone on with: the server would begin anew.
  if (std::holds_alternative<std::vector<TokenId>>(input.prompt) || !input.options.resume.empty()) {
    return std::make_unique<RefusedTokens>();
  }
  const bool chat = std::holds_alternative<std::vector<ChatMessage>>(input.prompt);
  http::ClientRequest request;
  request.method = "POST";
  request.url = options_.url + (chat ? "/chat/completions" : "/completions");
  request.headers.add("Content-Type", "application/json");
  request.headers.add("Accept", "text/event-stream");
  if (!options_.key.empty()) request.headers.add("Authorization", "Bearer " + options_.key);
  request.body = body_of(options_, input).dump(-1, ' ', false, json::error_handler_t::replace);
  return std::make_unique<UpstreamTokens>(client_, std::move(request), num_layers_,
                                          input.options.max_tokens);
}

}  // namespace farmesh::gateway
