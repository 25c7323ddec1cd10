// The public Session and TokenStream: thin handles that speak to a Conversation on the network
// thread through posted calls and a TokenQueue.
#include <algorithm>
#include <utility>

#include <asio/post.hpp>

#include <farmesh/session.hpp>

#include "client/chat.hpp"
#include "client/conversation.hpp"
#include "client/network_held.hpp"
#include "client/session_factory.hpp"
#include "client/token_queue.hpp"
#include "sampling/sampler.hpp"

namespace farmesh {
namespace {

using ConversationRef = client::NetworkHeld<client::Conversation>;

}  // namespace

inline namespace FARMESH_ABI {

std::string_view name(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::none: return "none";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
  }
  return "none";
}

}  // namespace FARMESH_ABI

// --- TokenStream ---------------------------------------------------------------------------------

struct TokenStream::Impl {
  ConversationRef conversation;
  std::shared_ptr<client::TokenQueue> queue;

  void cancel() const {
    if (!queue->cancel()) return;
    conversation.post([queue = queue](client::Conversation& to) { to.cancel(queue); });
  }
};

TokenStream::TokenStream(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
TokenStream::TokenStream(TokenStream&&) noexcept = default;

TokenStream& TokenStream::operator=(TokenStream&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

TokenStream::~TokenStream() {
  if (impl_ && !impl_->conversation.guard().forked()) impl_->cancel();
}

Result<std::optional<Token>> TokenStream::next() {
  if (const Result<void> usable = impl_->conversation.guard().check(); !usable) {
    return usable.error();
  }
  return impl_->queue->pop();
}

bool TokenStream::wait(std::chrono::milliseconds at_most) const {
  return impl_->conversation.guard().forked() || impl_->queue->wait(at_most);
}

void TokenStream::on_ready(std::function<void()> wake) {
  if (impl_->conversation.guard().forked()) return wake();
  impl_->queue->on_ready(std::move(wake));
}

void TokenStream::cancel() {
  if (!impl_->conversation.guard().forked()) impl_->cancel();
}

Usage TokenStream::usage() const {
  if (impl_->conversation.guard().forked()) return {};
  return impl_->queue->usage();
}

std::optional<Error> TokenStream::error() const {
  if (const Result<void> usable = impl_->conversation.guard().check(); !usable) {
    return usable.error();
  }
  return impl_->queue->error();
}

// --- Session -------------------------------------------------------------------------------------

struct Session::Impl {
  ConversationRef conversation;
  const std::size_t buffer_tokens;
  std::shared_ptr<client::TokenQueue> last;  // the latest turn's; null before the first

  const client::SharedModel& model() const { return conversation.model(); }

  TokenStream stream(std::shared_ptr<client::TokenQueue> queue) const {
    return TokenStream(
        std::unique_ptr<TokenStream::Impl>(new TokenStream::Impl{conversation, std::move(queue)}));
  }

  TokenStream failed(const Error& error) const {
    return stream(std::make_shared<client::TokenQueue>(error));
  }

  // Whether a turn may begin: the one before has ended, or is ending by cancel().
  Result<void> ready() const {
    if (const Result<void> usable = conversation.guard().check(); !usable) return usable;
    if (!last) return {};
    if (!last->ended() && !last->cancelled()) {
      return {Errc::busy, "the stream before this one still runs"};
    }
    last->wait_ended();
    return {};
  }

  Result<void> check(const client::TurnRequest& request) const {
    const std::size_t before = request.restart ? 0 : conversation->ids().size();
    const std::size_t all = before + request.ids.size();
    if (request.ids.empty() && before == 0) return {Errc::invalid_argument, "an empty prompt"};
    if (all > conversation->context_tokens() ||
        request.options.resume.size() > conversation->context_tokens() - all) {
      return {Errc::context_exceeded, std::to_string(all) + " tokens do not fit the context of " +
                                          std::to_string(conversation->context_tokens())};
    }
    if (request.options.nodes && model().head == nullptr) {
      return {Errc::unsupported, "the head's peer chooses the nodes"};
    }
    if (const Result<void> stops = client::StopFilter::check(request.options.stop); !stops) {
      return stops;
    }
    for (const TokenId id : request.options.resume) {
      if (id >= model().vocab_size) {
        return {Errc::invalid_argument, "a resumed token id is outside the vocabulary"};
      }
    }
    return sampling::validate(request.options.sampling, model().vocab_size);
  }

  TokenStream start(client::TurnRequest request) {
    if (const Result<void> valid = check(request); !valid) return failed(valid.error());
    const client::TurnMeter meter(model().runtime->clock().now(),
                                  std::uint32_t(request.ids.size()));
    // The queue is read by streams, which keep the conversation: no reference back to it here.
    auto on_room = [executor = model().runtime->executor(),
                    weak = std::weak_ptr(conversation.shared())] {
      asio::post(executor, [weak] {
        if (const auto alive = weak.lock()) alive->resume();
      });
    };
    auto queue = std::make_shared<client::TokenQueue>(buffer_tokens, meter, std::move(on_room));
    last = queue;
    conversation.post([queue, request = std::move(request)](client::Conversation& to) mutable {
      to.start(std::move(request), std::move(queue));
    });
    return stream(last);
  }
};

Session::Session(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;

Session& Session::operator=(Session&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

// The conversation ends with its last holder: this session, or a stream that is still read.
Session::~Session() = default;

TokenStream Session::generate(std::string_view prompt, const GenerateOptions& options) {
  if (const Result<void> ready = impl_->ready(); !ready) return impl_->failed(ready.error());
  text::EncodeOptions encoding;
  encoding.add_special = impl_->conversation->ids().empty();
  Result<std::vector<TokenId>> ids = impl_->model().tokenizer->encode(prompt, encoding);
  if (!ids) return impl_->failed(ids.error());
  return impl_->start({.ids = *std::move(ids), .options = options});
}

TokenStream Session::generate_ids(std::vector<TokenId> prompt, const GenerateOptions& options) {
  if (const Result<void> ready = impl_->ready(); !ready) return impl_->failed(ready.error());
  return impl_->start({.ids = std::move(prompt), .options = options});
}

TokenStream Session::chat(const std::vector<ChatMessage>& messages,
                          const GenerateOptions& options) {
  if (const Result<void> ready = impl_->ready(); !ready) return impl_->failed(ready.error());
  Result<client::TurnRequest> request =
      client::chat_request(impl_->model(), *impl_->conversation, messages, options);
  if (!request) return impl_->failed(request.error());
  return impl_->start(*std::move(request));
}

std::vector<TokenId> Session::ids() const {
  std::vector<TokenId> ids;
  if (impl_->conversation.guard().forked()) return ids;
  impl_->model().runtime->run_blocking([this, &ids] { ids = impl_->conversation->ids(); });
  return ids;
}

// --- making --------------------------------------------------------------------------------------

Result<Session> client::make_session(std::shared_ptr<const SharedModel> model,
                                     const SessionOptions& options) {
  if (options.buffer_tokens == 0) return {Errc::invalid_argument, "buffer_tokens is 0"};
  auto conversation = std::make_shared<Conversation>(*model, options);
  ConversationRef ref(std::move(model), std::move(conversation));
  return Session(std::unique_ptr<Session::Impl>(
      new Session::Impl{std::move(ref), options.buffer_tokens, nullptr}));
}

}  // namespace farmesh
