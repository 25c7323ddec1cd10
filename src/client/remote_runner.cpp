#include "client/remote_runner.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "base/digest.hpp"
#include "net/event.hpp"
#include "wire/messages.hpp"

namespace farmesh::client {
namespace {

constexpr std::size_t kMaxWaitingFrames = 4'096;  // a head floods beyond; the reader keeps up

// Whether another head might do what this one did not.
bool another_may_help(Errc code) {
  return code != Errc::invalid_argument && code != Errc::context_exceeded &&
         code != Errc::cancelled;
}

// Weights and numerics class are the peer set's to compare: those of the first peer count.
Result<void> check(const std::string& address, const wire::Service& service,
                   const SharedModel& model) {
  if (service.vocab_size == model.vocab_size && service.num_layers == model.num_layers &&
      service.hidden_size == model.hidden_size) {
    return {};
  }
  return {Errc::weights_mismatch, address + " serves a model of another shape"};
}

Payload payload_of(const std::vector<TokenId>& ids) {
  return Payload::copy_of(std::as_bytes(std::span(ids)));
}

}  // namespace

struct RemoteRunner::Exchange final : driver::SessionHandler {
  Exchange(driver::PeerSet& set, std::string head_address, std::shared_ptr<net::Connection> head)
      : peers(set),
        address(std::move(head_address)),
        connection(std::move(head)),
        changed(set.clock()) {
    random_bytes(session.bytes);
  }

  ~Exchange() override {
    peers.unregister_session(session);
    if (!connection->is_open()) return;
    const wire::Close close{session};
    // Nothing is left to tell if the link is gone: the head then closes the session by itself.
    (void)connection->push({.verb = wire::Verb::close, .header = wire::encode(close)});
  }

  // Frames that name no session come to every exchange: only its own head's are its own.
  void on_frame(const std::string& from, wire::Frame frame) override {
    if (from != address) return;
    if (frames.size() >= kMaxWaitingFrames) {
      lost = Error{Errc::busy, "the head sent faster than it was read"};
    } else {
      frames.push_back(std::move(frame));
    }
    changed.set();
  }

  void on_peer_lost(const std::string& gone, const Error& error) override {
    if (gone != address) return;
    lost = error;
    changed.set();
  }

  driver::PeerSet& peers;
  const std::string address;  // as the peer set knows it, whatever the link calls the remote
  std::shared_ptr<net::Connection> connection;
  net::Event changed;
  SessionId session;
  std::uint32_t stream = 0;
  std::deque<wire::Frame> frames;
  std::optional<Error> lost;
};

RemoteRunner::RemoteRunner(const SharedModel& model, RouteWishes wishes)
    : model_(model), wishes_(wishes) {}

RemoteRunner::~RemoteRunner() = default;

void RemoteRunner::cancel() {
  cancelled_ = true;
  if (exchange_) exchange_->changed.set();
}

std::uint32_t RemoteRunner::recoveries() const { return recoveries_; }

net::Task<Result<wire::Finish>> RemoteRunner::run(TurnInput input, driver::OnToken on_token) {
  cancelled_ = false;
  failed_.clear();
  last_failure_.reset();
  while (true) {
    const Result<void> chosen = co_await choose_head();
    if (cancelled_) co_return wire::Finish::cancelled;
    if (!chosen) co_return chosen.error();

    const Result<wire::Finish> finish = co_await follow(*exchange_, input, on_token);
    if (finish && *finish != wire::Finish::cancelled) co_return *finish;

    const std::string address = exchange_->address;
    exchange_.reset();  // a cancelled or failed session is forgotten, there and here
    if (finish) co_return *finish;
    if (!another_may_help(finish.error().code)) co_return finish.error();
    failed_.insert(address);
    last_failure_ = finish.error();
    ++recoveries_;
  }
}

net::Task<Result<void>> RemoteRunner::choose_head() {
  if (exchange_ && !exchange_->lost && exchange_->connection->is_open()) co_return Result<void>();
  exchange_.reset();

  for (const bool after_dialling : {false, true}) {
    const TimePoint deadline = model_.peers->clock().now() + model_.peers->options().dial_timeout;
    if (after_dialling) co_await model_.peers->connect_all(deadline);
    const std::vector<std::string> heads = model_.peers->heads();
    for (const std::string& address : heads) {
      if (failed_.contains(address)) continue;
      const Result<std::shared_ptr<net::Connection>> connection =
          co_await model_.peers->connection(address, deadline);
      const Result<void> usable =
          connection ? check(address, (*connection)->remote().service, model_) : connection.error();
      if (!usable) {
        failed_.insert(address);
        last_failure_ = usable.error();
        continue;
      }
      exchange_ = std::make_shared<Exchange>(*model_.peers, address, *connection);
      model_.peers->register_session(exchange_->session, exchange_);
      co_return Result<void>();
    }
  }
  co_return last_failure_.value_or(Error{Errc::head_unavailable, "no peer offers a head"});
}

net::Task<Result<wire::Finish>> RemoteRunner::follow(Exchange& exchange, TurnInput& input,
                                                     const driver::OnToken& on_token) {
  wire::Generate request;
  request.session = exchange.session;
  request.prompt_tokens = std::uint32_t(input.ids.size());
  request.emitted_tokens = input.emitted;
  request.max_tokens = input.max_tokens;
  request.sampling = input.sampling;
  request.stop_tokens = input.stop_tokens;
  request.warm_standby = wishes_.warm_standby;
  request.activations = wishes_.activations;
  request.max_draft = std::min(input.max_draft, wire::kMaxStepRows);
  const std::vector<std::string>& peers = model_.peer_addresses;
  request.peers.assign(peers.begin(),
                       peers.begin() + std::ptrdiff_t(std::min(peers.size(), wire::kMaxPeers)));
  exchange.stream = exchange.connection->new_stream();
  const Result<void> sent = exchange.connection->push({.verb = wire::Verb::generate,
                                                       .stream = exchange.stream,
                                                       .header = wire::encode(request),
                                                       .payload = payload_of(input.ids)});
  if (!sent) co_return sent.error();

  while (true) {
    while (exchange.frames.empty() && !exchange.lost && !cancelled_) {
      exchange.changed.reset();
      co_await exchange.changed.wait(TimePoint::max());
    }
    if (cancelled_) co_return wire::Finish::cancelled;
    if (exchange.frames.empty()) co_return *exchange.lost;

    const wire::Frame frame = std::move(exchange.frames.front());
    exchange.frames.pop_front();
    const Result<wire::Finish> step = take(exchange, frame, input, on_token);
    if (!step || *step != wire::Finish::none) co_return step;
  }
}

Result<wire::Finish> RemoteRunner::take(const Exchange& exchange, const wire::Frame& frame,
                                        TurnInput& input, const driver::OnToken& on_token) {
  if (frame.stream != exchange.stream) return wire::Finish::none;  // of an earlier turn
  if (frame.verb == wire::Verb::error) {
    const Result<wire::ErrorMessage> error = wire::decode<wire::ErrorMessage>(frame.header);
    if (!error) return error.error();
    return {error->code, exchange.address + ": " + error->detail};
  }
  const Result<wire::TokenMessage> message = wire::decode<wire::TokenMessage>(frame.header);
  if (frame.verb != wire::Verb::token || !message) {
    return {Errc::bad_header, exchange.address + " sent no token"};
  }
  if (!message->has_token) return message->finish;

  if (message->index != input.emitted || message->index >= input.max_tokens ||
      message->id >= model_.vocab_size) {
    return {Errc::bad_payload, exchange.address + " sent a token that cannot be"};
  }
  input.ids.push_back(message->id);
  ++input.emitted;
  failed_.clear();
  if (!on_token(*message)) return wire::Finish::cancelled;
  return message->finish;
}

}  // namespace farmesh::client
