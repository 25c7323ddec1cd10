#include "net/connection.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include <asio/post.hpp>

#include "base/assert.hpp"
#include "net/event.hpp"

namespace farmesh::net {
namespace {

using wire::Frame;
using wire::Verb;

// Streams of call() are odd, those of new_stream() even: an answer tells by its number alone
// who waits for it, however long ago the question was.
constexpr std::uint32_t kFirstCallStream = 1;
constexpr std::uint32_t kFirstExchangeStream = 2;
constexpr bool is_call_stream(std::uint32_t stream) { return stream % 2 == 1; }

/// Gives first, first + 2, … and starts again before it would wrap.
class StreamNumbers {
 public:
  explicit StreamNumbers(std::uint32_t first) : first_(first), next_(first) {}

  std::uint32_t take() noexcept {
    const std::uint32_t stream = next_;
    wrapped_ = wrapped_ || next_ > ~std::uint32_t{3};
    next_ = next_ > ~std::uint32_t{3} ? first_ : next_ + 2;
    return stream;
  }
  bool ever_given(std::uint32_t stream) const noexcept { return wrapped_ || stream < next_; }

 private:
  std::uint32_t first_;
  std::uint32_t next_;
  bool wrapped_ = false;
};

Error error_of(const wire::ErrorMessage& message) {
  if (message.code != Errc::remote_unknown) return {message.code, message.detail};
  return {message.code, "error " + std::to_string(message.number) + ": " + message.detail};
}

// Whether the remote may be here: as the node whose key it has, and into a private mesh.
Result<void> check_identity(const wire::Hello& hello, const LinkIdentity& proven) {
  if (!is_unknown(proven.remote) && hello.node_id != proven.remote) {
    return {Errc::identity_mismatch, "hello names node " + short_name(hello.node_id) +
                                         ", the key is that of " + short_name(proven.remote)};
  }
  if (!proven.mesh) return {};
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return proven.mesh->admit(hello.join, hello.node_id, now);
}

Frame error_frame(std::uint32_t stream, const Error& error) {
  wire::ErrorMessage message;
  message.code = error.code;
  message.detail = error.detail;
  Frame frame;
  frame.verb = Verb::error;
  frame.reply = stream != 0;
  frame.stream = stream;
  frame.header = wire::encode(message);
  return frame;
}

}  // namespace

struct Connection::Impl {
  using Answer = Result<Frame>;
  enum class State { greeting, open, closed };

  Impl(std::shared_ptr<Link> l, Clock& c, Identity who, FrameHandler frames, CloseHandler closed,
       ConnectionOptions o)
      : link(std::move(l)),
        clock(c),
        identity(std::move(who)),
        on_frame(std::move(frames)),
        on_close(std::move(closed)),
        options(o),
        greeted(c),
        address(link->remote_address()) {}

  void begin(Connection& connection);
  Result<void> send(Frame frame);
  void say_hello(bool reply);
  void end(Error reason);
  void fail(const Error& error);
  Error gone() const;

  void receive(Frame frame);
  void greet(const Frame& frame);
  void answered(Frame frame);
  void told_error(Frame frame);
  void answer_ping(const Frame& frame);
  void hand_on(Frame frame);

  void keep_alive();
  void keep_alive_at(TimePoint when);
  void send_ping(TimePoint now);
  void answered_ping(const Frame& frame);
  void measured(Duration sample);

  Connection* owner = nullptr;
  std::shared_ptr<Link> link;
  Clock& clock;
  Identity identity;
  FrameHandler on_frame;
  CloseHandler on_close;
  std::function<void(const std::shared_ptr<Connection>&)> on_ready;  // accepting side only
  TimerId hello_timer = 0;  // accepting side only: holds the connection until it is ready
  ConnectionOptions options;

  State state = State::greeting;
  bool dialled = false;
  Event greeted;  // set when greeting has ended either way
  Error ended;    // when closed
  wire::Hello remote;
  wire::Pong remote_load;
  std::string address;
  std::uint8_t version = wire::kProtocolVersion;

  std::map<std::uint32_t, std::function<void(Answer)>> pending;  // by stream of call()
  StreamNumbers call_streams{kFirstCallStream};
  StreamNumbers exchange_streams{kFirstExchangeStream};

  TimePoint hello_sent{};
  TimePoint last_traffic{};  // frames other than pings
  TimePoint ping_sent{};
  std::uint32_t ping_stream = 0;  // of the last ping, until its pong; 0: none
  bool ping_unanswered = false;   // nothing at all was heard since it
  std::uint64_t next_nonce = 1;
  Duration round_trip{};
};

// ---- opening ----

void Connection::Impl::begin(Connection& connection) {
  owner = &connection;
  last_traffic = clock.now();
  link->limit_payload(kMaxPayloadBeforeHello);
  const std::weak_ptr<Connection> weak = connection.weak_from_this();
  link->start(
      [weak](Frame frame) {
        if (const auto self = weak.lock()) self->impl_->receive(std::move(frame));
      },
      [weak](Error reason) {
        if (const auto self = weak.lock()) self->impl_->end(std::move(reason));
      });
}

void Connection::Impl::say_hello(bool reply) {
  Frame frame;
  frame.verb = Verb::hello;
  frame.reply = reply;
  wire::Hello hello = identity.hello();
  const LinkIdentity& proven = link->identity();
  if (!is_unknown(proven.local)) hello.node_id = proven.local;
  if (proven.mesh) hello.join = proven.mesh->pass();
  frame.header = wire::encode(hello);
  const Result<void> sent = send(std::move(frame));
  if (!sent) end(sent.error());
}

// The first frame of the remote: its hello, or why there will be none.
void Connection::Impl::greet(const Frame& frame) {
  if (frame.verb == Verb::error) return told_error(frame);
  if (frame.verb != Verb::hello || frame.reply != dialled) {
    return fail({Errc::unexpected_verb, std::string(name(frame.verb)) + " before hello"});
  }
  Result<wire::Hello> hello = wire::decode<wire::Hello>(frame.header);
  if (!hello) return fail(hello.error());
  const Result<void> known = check_identity(*hello, link->identity());
  if (!known) return fail(known.error());
  const wire::Hello mine = identity.hello();
  const std::uint8_t highest = std::min(mine.max_version, hello->max_version);
  if (highest < std::max(mine.min_version, hello->min_version)) {
    return fail({Errc::version_unsupported, "versions " + std::to_string(hello->min_version) +
                                                " to " + std::to_string(hello->max_version) +
                                                " and " + std::to_string(mine.min_version) +
                                                " to " + std::to_string(mine.max_version) +
                                                " have none in common"});
  }
  remote = std::move(*hello);
  version = highest;
  link->limit_payload(wire::kMaxPayloadBytes);
  if (dialled) {
    measured(clock.now() - hello_sent);
  } else {
    say_hello(true);
    if (state == State::closed) return;
  }
  state = State::open;
  keep_alive_at(clock.now() + options.ping_interval);
  greeted.set();
  clock.cancel(hello_timer);
  if (const auto ready = std::exchange(on_ready, nullptr)) ready(owner->shared_from_this());
}

Task<Result<std::shared_ptr<Connection>>> Connection::connect(
    Transport& transport, std::string address, Identity identity, FrameHandler on_frame,
    CloseHandler on_close, TimePoint deadline, ConnectionOptions options) {
  Clock& clock = transport.clock();
  Task<Result<std::shared_ptr<Link>>> dialling = transport.dial(std::move(address), deadline);
  Result<std::shared_ptr<Link>> link = co_await std::move(dialling);
  if (!link) co_return std::move(link).error();
  Task<Result<std::shared_ptr<Connection>>> greeting =
      connect_over(std::move(*link), clock, std::move(identity), std::move(on_frame),
                   std::move(on_close), deadline, options);
  Result<std::shared_ptr<Connection>> connection = co_await std::move(greeting);
  co_return connection;
}

Task<Result<std::shared_ptr<Connection>>> Connection::connect_over(
    std::shared_ptr<Link> link, Clock& clock, Identity identity, FrameHandler on_frame,
    CloseHandler on_close, TimePoint deadline, ConnectionOptions options) {
  auto made = std::make_unique<Impl>(std::move(link), clock, std::move(identity),
                                     std::move(on_frame), std::move(on_close), options);
  const std::shared_ptr<Connection> self(new Connection(std::move(made)));
  Impl& impl = *self->impl_;
  impl.dialled = true;
  impl.begin(*self);
  impl.hello_sent = clock.now();
  impl.say_hello(false);
  const TimePoint limit = std::min(deadline, clock.now() + options.hello_timeout);
  co_await impl.greeted.wait(limit);
  if (impl.state == Impl::State::greeting) {
    Error late{Errc::timeout, impl.address + " did not answer hello"};
    impl.end(std::move(late));
  }
  if (impl.state == Impl::State::closed) co_return impl.ended;
  co_return self;
}

void Connection::accept(std::shared_ptr<Link> link, Clock& clock, Identity identity,
                        FrameHandler on_frame, CloseHandler on_close,
                        std::function<void(const std::shared_ptr<Connection>&)> on_ready,
                        ConnectionOptions options) {
  auto made = std::make_unique<Impl>(std::move(link), clock, std::move(identity),
                                     std::move(on_frame), std::move(on_close), options);
  const std::shared_ptr<Connection> self(new Connection(std::move(made)));
  Impl& impl = *self->impl_;
  impl.on_ready = std::move(on_ready);
  impl.begin(*self);
  impl.hello_timer = clock.call_at(clock.now() + options.hello_timeout, [self] {
    if (self->impl_->state != Impl::State::greeting) return;
    self->impl_->end({Errc::timeout, "no hello from the remote"});
  });
}

// ---- frames in ----

void Connection::Impl::receive(Frame frame) {
  if (state == State::closed) return;
  ping_unanswered = false;
  if (frame.verb != Verb::ping) last_traffic = clock.now();
  if (state == State::greeting) return greet(frame);
  switch (frame.verb) {
    case Verb::hello: return fail({Errc::unexpected_verb, "hello was said before"});
    case Verb::error: return told_error(std::move(frame));
    case Verb::ping: return frame.reply ? answered(std::move(frame)) : answer_ping(frame);
    default: return frame.reply ? answered(std::move(frame)) : hand_on(std::move(frame));
  }
}

void Connection::Impl::hand_on(Frame frame) {
  const std::shared_ptr<Connection> self = owner->shared_from_this();
  on_frame(self, std::move(frame));
}

void Connection::Impl::answered(Frame frame) {
  const std::uint32_t stream = frame.stream;
  if (stream == 0) {
    if (frame.verb == Verb::step) return hand_on(std::move(frame));
    return fail({Errc::bad_stream, "an answer to nothing"});
  }
  const StreamNumbers& given = is_call_stream(stream) ? call_streams : exchange_streams;
  if (!given.ever_given(stream)) {
    return fail({Errc::bad_stream,
                 "an answer on stream " + std::to_string(stream) + ", where nothing was asked"});
  }
  if (!is_call_stream(stream)) return hand_on(std::move(frame));
  if (stream == ping_stream) return answered_ping(frame);
  auto call = pending.extract(stream);
  if (!call.empty()) call.mapped()(std::move(frame));  // else: too late, nobody waits
}

void Connection::Impl::told_error(Frame frame) {
  const Result<wire::ErrorMessage> message = wire::decode<wire::ErrorMessage>(frame.header);
  if (!message) return fail(message.error());
  if (frame.stream != 0 && state == State::open) return answered(std::move(frame));
  if (message->about_session && state == State::open) return hand_on(std::move(frame));
  end(error_of(*message));  // about the connection itself: the remote is closing it
}

void Connection::Impl::answer_ping(const Frame& frame) {
  const Result<wire::Ping> ping = wire::decode<wire::Ping>(frame.header);
  if (!ping) return fail(ping.error());
  wire::Pong pong;
  if (identity.load) pong = identity.load();
  pong.nonce = ping->nonce;
  const Result<void> sent = owner->reply(frame, Verb::ping, wire::encode(pong));
  static_cast<void>(sent);  // a link too full for a pong shows its life by what it carries
}

// ---- keep-alive ----
// Both sides ping a quiet connection: each learns the other's load and the round trip.

void Connection::Impl::keep_alive_at(TimePoint when) {
  clock.call_at(when, [weak = owner->weak_from_this()] {
    if (const auto self = weak.lock()) self->impl_->keep_alive();
  });
}

void Connection::Impl::keep_alive() {
  if (state == State::closed) return;
  const TimePoint now = clock.now();
  if (ping_unanswered && link->last_progress() <= ping_sent) {
    return end({Errc::connection_lost, "no answer to a ping"});
  }
  const TimePoint due = std::max(last_traffic, ping_sent) + options.ping_interval;
  if (now < due) return keep_alive_at(due);
  send_ping(now);
  keep_alive_at(now + options.ping_timeout);
}

void Connection::Impl::send_ping(TimePoint now) {
  ping_sent = now;
  ping_stream = call_streams.take();
  ping_unanswered = true;
  Frame frame;
  frame.verb = Verb::ping;
  frame.stream = ping_stream;
  frame.header = wire::encode(wire::Ping{next_nonce++});
  const Result<void> sent = send(std::move(frame));
  static_cast<void>(sent);  // a full queue drains, or silence ends the connection
}

void Connection::Impl::answered_ping(const Frame& frame) {
  ping_stream = 0;
  const Result<wire::Pong> pong = wire::decode<wire::Pong>(frame.header);
  if (!pong) return fail(pong.error());
  remote_load = *pong;
  measured(clock.now() - ping_sent);
}

// Smoothed as TCP does (RFC 6298): an eighth of each new measurement.
void Connection::Impl::measured(Duration sample) {
  round_trip = round_trip == Duration{} ? sample : round_trip + (sample - round_trip) / 8;
}

// ---- closing ----

Error Connection::Impl::gone() const {
  if (ended.code == Errc::closed || ended.code == Errc::connection_lost) return ended;
  return {Errc::connection_lost, ended.to_string()};
}

void Connection::Impl::end(Error reason) {
  if (state == State::closed) return;
  const bool was_open = state == State::open;
  const std::shared_ptr<Connection> self = owner->shared_from_this();
  state = State::closed;
  ended = std::move(reason);
  clock.cancel(hello_timer);
  link->close(ended);
  greeted.set();
  for (auto& [stream, done] : std::exchange(pending, {})) done(gone());
  // Posted, as this may run inside one of the handlers that are let go here.
  asio::post(clock.executor(), [self, was_open] {
    Impl& impl = *self->impl_;
    const CloseHandler handler = std::exchange(impl.on_close, nullptr);
    impl.on_frame = nullptr;
    impl.on_ready = nullptr;
    impl.identity = {};
    if (was_open && handler) handler(self, impl.ended);
  });
}

void Connection::Impl::fail(const Error& error) {
  if (state == State::closed) return;
  const Result<void> told = link->send(error_frame(0, error));
  static_cast<void>(told);  // a courtesy
  end(error);
}

// ---- frames out ----

Result<void> Connection::Impl::send(Frame frame) {
  if (state == State::closed) return gone();
  return link->send(std::move(frame));
}

Task<Result<Frame>> Connection::call(Verb verb, wire::HeaderBytes header, Payload payload,
                                     TimePoint deadline) {
  const std::shared_ptr<Connection> self = shared_from_this();
  Impl& impl = *impl_;
  if (impl.pending.size() >= impl.options.max_pending_calls) {
    co_return Error{Errc::busy, "too many calls pending on the connection"};
  }
  struct Slot {
    explicit Slot(Clock& clock) : ready(clock) {}
    Event ready;
    std::optional<Result<Frame>> answer;
  };
  const auto slot = std::make_shared<Slot>(impl.clock);
  Frame frame;
  frame.verb = verb;
  frame.stream = impl.call_streams.take();
  frame.header = std::move(header);
  frame.payload = std::move(payload);
  const std::uint32_t stream = frame.stream;
  const Result<void> sent = impl.send(std::move(frame));
  if (!sent) co_return sent.error();
  impl.pending[stream] = [slot](Result<Frame> answer) {
    slot->answer = std::move(answer);
    slot->ready.set();
  };
  co_await slot->ready.wait(deadline);
  impl.pending.erase(stream);
  if (!slot->answer) {
    co_return Error{Errc::timeout, "no answer to " + std::string(name(verb)) + " in time"};
  }
  Result<Frame> answer = std::move(*slot->answer);
  if (!answer || answer->verb != Verb::error) co_return answer;
  const Result<wire::ErrorMessage> error = wire::decode<wire::ErrorMessage>(answer->header);
  if (!error) co_return error.error();
  co_return error_of(*error);
}

Result<void> Connection::push(Frame frame) { return impl_->send(std::move(frame)); }

Result<void> Connection::reply(const Frame& request, Verb verb, wire::HeaderBytes header,
                               Payload payload) {
  if (request.stream == 0) return {};
  Frame frame;
  frame.verb = verb;
  frame.reply = true;
  frame.stream = request.stream;
  frame.header = std::move(header);
  frame.payload = std::move(payload);
  return impl_->send(std::move(frame));
}

Result<void> Connection::reply_error(const Frame& request, const Error& error) {
  if (request.stream == 0) return {};
  return impl_->send(error_frame(request.stream, error));
}

std::uint32_t Connection::new_stream() noexcept { return impl_->exchange_streams.take(); }

// ---- the rest ----

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Connection::~Connection() { impl_->link->close({Errc::closed, "the connection was dropped"}); }

void Connection::fail(Error error) { impl_->fail(error); }
void Connection::close() { impl_->end({Errc::closed, "closed by this side"}); }

bool Connection::is_open() const noexcept { return impl_->state == Impl::State::open; }
const wire::Hello& Connection::remote() const noexcept { return impl_->remote; }
const wire::Pong& Connection::remote_load() const noexcept { return impl_->remote_load; }
const std::string& Connection::address() const noexcept { return impl_->address; }
std::string Connection::remote_endpoint() const { return impl_->link->remote_endpoint(); }
std::uint8_t Connection::version() const noexcept { return impl_->version; }
Duration Connection::round_trip() const noexcept { return impl_->round_trip; }
std::size_t Connection::pending_calls() const noexcept { return impl_->pending.size(); }
std::size_t Connection::queued_bytes() const noexcept { return impl_->link->queued_bytes(); }
Clock& Connection::clock() noexcept { return impl_->clock; }

}  // namespace farmesh::net
