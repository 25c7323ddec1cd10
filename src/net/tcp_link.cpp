#include "net/tcp_link.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <deque>
#include <new>
#include <utility>
#include <vector>

#include <asio/buffer.hpp>
#include <asio/post.hpp>

#include "net/link_events.hpp"
#include "net/tcp_address.hpp"
#include "net/tcp_transport.hpp"
#include "wire/messages.hpp"

namespace farmesh::net {
namespace {

using wire::Frame;

constexpr std::size_t kRecordBytes = 16u << 10;  // plaintext of a TLS record at most
// Encrypted for one write. More waits as plaintext, so that a long queue is in memory once.
constexpr std::size_t kSealBytes = 128u << 10;
constexpr std::size_t kKeepBytes = 64u << 10;  // of memory for it, while there is nothing to send
constexpr std::chrono::seconds kLinger{1};

// A frame on its way out.
struct Outgoing {
  std::array<std::byte, wire::kPrefixBytes> prefix;
  Frame frame;
};

// A frame on its way in: decrypted part by part to where it stays.
struct Incoming {
  std::array<std::byte, wire::kPrefixBytes> prefix;
  Frame frame;  // without its payload
  AlignedBuffer payload;
  std::size_t filled = 0;  // bytes of prefix, header and payload
  bool sized = false;      // the prefix was read, and found within bounds

  /// Of the part that is being filled; empty when the frame is complete.
  MutableByteView rest() {
    std::size_t at = filled;
    for (const MutableByteView part :
         {MutableByteView(prefix), MutableByteView(frame.header), payload.view()}) {
      if (at < part.size()) return part.subspan(at);
      at -= part.size();
    }
    return {};
  }
  bool begun() const noexcept { return filled > 0; }
};

// Collects parts of frames into records, and hands on those that fill more than one as they lie: a
// record costs more, on both sides, than the copy of what shares it.
class Sealer {
 public:
  explicit Sealer(TlsSession& tls) : tls_(tls) {}

  Result<void> add(ByteView part) {
    if (filled_ + part.size() > record().size()) {
      const Result<void> flushed = flush();
      if (!flushed) return flushed;
    }
    if (part.size() > record().size()) return tls_.write(part);
    if (!part.empty()) std::memcpy(record().data() + filled_, part.data(), part.size());
    filled_ += part.size();
    return {};
  }

  Result<void> flush() {
    const std::size_t count = std::exchange(filled_, 0);
    return tls_.write(ByteView(record()).first(count));
  }

  std::size_t sealed_bytes() { return tls_.outgoing().size() + filled_; }

 private:
  // One for all links: nothing stays in it between calls.
  static std::array<std::byte, kRecordBytes>& record() {
    thread_local std::array<std::byte, kRecordBytes> bytes;
    return bytes;
  }

  TlsSession& tls_;
  std::size_t filled_ = 0;
};

// The socket with its two loops. It outlives its link for a moment when the last frames are
// still to be sent; the loops' handlers keep it alive.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  Channel(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket,
          std::unique_ptr<TlsSession> tls, std::optional<AcceptGate::Ticket> ticket)
      : shared_(std::move(shared)),
        ticket_(std::move(ticket)),
        socket_(std::move(socket)),
        tls_(std::move(tls)),
        events_(std::make_shared<LinkEvents>(socket_.get_executor())) {}

  void start(std::function<void(Frame)> on_frame, std::function<void(Error)> on_close);
  Result<void> send(Frame frame);
  void close(Error reason);
  void drop();
  void limit_payload(std::uint32_t bytes) { payload_limit_ = bytes; }

  std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  bool is_open() const noexcept { return !events_->ended(); }
  TimePoint last_progress() const noexcept { return last_progress_; }

 private:
  void enqueue(Frame frame);
  void write();
  Result<void> seal();
  Result<std::size_t> seal_some(Sealer& sealer);
  void write_sealed();
  void wrote(std::size_t bytes);
  void read();
  void arrived();
  void take_frames();
  Result<void> size_frame();
  void hand_on();
  void watch_frame();
  void watch_at(TimePoint when);
  void refuse(const Error& error);
  void lose(Error reason);
  void linger();
  void close_socket();

  std::shared_ptr<TcpShared> shared_;
  std::optional<AcceptGate::Ticket> ticket_;
  asio::ip::tcp::socket socket_;
  std::unique_ptr<TlsSession> tls_;
  std::shared_ptr<LinkEvents> events_;
  bool reading_ = false;
  bool lingering_ = false;  // ended by this side; the last frames leave, what comes is discarded
  TimePoint last_progress_ = TimePoint::min();

  std::deque<Outgoing> outgoing_;
  std::size_t queued_bytes_ = 0;        // of frames, until the write that holds them has ended
  std::size_t front_sealed_ = 0;        // bytes of the first outgoing frame
  std::size_t sealed_frame_bytes_ = 0;  // of frames, in the write under way
  std::vector<std::byte> sealed_;       // ciphertext of the write under way
  std::size_t sealed_written_ = 0;
  bool writing_ = false;

  std::uint32_t payload_limit_ = wire::kMaxPayloadBytes;
  Incoming incoming_;
  std::optional<TimePoint> frame_due_;  // when the frame that has begun must be complete
  bool watching_ = false;               // a timer for it is set
};

// What came with the end of the handshake is looked at first, in a turn of its own.
void Channel::start(std::function<void(Frame)> on_frame, std::function<void(Error)> on_close) {
  events_->start(std::move(on_frame), std::move(on_close));
  if (events_->ended()) return;
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->arrived(); });
}

// ---- out ----

Result<void> Channel::send(Frame frame) {
  Result<void> sendable = check_sendable(frame, *events_, queued_bytes_, shared_->limits);
  if (!sendable) return sendable;
  enqueue(std::move(frame));
  return {};
}

void Channel::enqueue(Frame frame) {
  queued_bytes_ += frame.wire_bytes();
  const wire::FramePrefix prefix = wire::prefix_of(frame);
  outgoing_.push_back({wire::encode_prefix(prefix), std::move(frame)});
  write();
}

// One write at a time; frames that queue up meanwhile leave together in the next.
void Channel::write() {
  if (writing_ || !socket_.is_open()) return;
  const Result<void> sealed = seal();
  if (!sealed) return lose(sealed.error());
  if (!sealed_.empty()) return write_sealed();
  if (!lingering_) return;
  std::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
}

// Encrypts what waits, to the amount of one write. TLS itself may have something to say, too.
Result<void> Channel::seal() {
  sealed_.clear();
  sealed_written_ = 0;
  Sealer sealer(*tls_);
  while (!outgoing_.empty() && sealer.sealed_bytes() < kSealBytes) {
    const Result<std::size_t> bytes = seal_some(sealer);
    if (!bytes) return bytes.error();
    sealed_frame_bytes_ += *bytes;
    front_sealed_ += *bytes;
    if (front_sealed_ < outgoing_.front().frame.wire_bytes()) continue;
    front_sealed_ = 0;
    outgoing_.pop_front();
  }
  const Result<void> flushed = sealer.flush();
  std::swap(sealed_, tls_->outgoing());
  return flushed;
}

// The next part of the first outgoing frame, up to a bound. Returns its size.
Result<std::size_t> Channel::seal_some(Sealer& sealer) {
  const Outgoing& out = outgoing_.front();
  std::size_t skip = front_sealed_;
  for (const ByteView part :
       {ByteView(out.prefix), ByteView(out.frame.header), out.frame.payload.view()}) {
    if (skip >= part.size()) {
      skip -= part.size();
      continue;
    }
    const ByteView rest = part.subspan(skip, std::min(part.size() - skip, kSealBytes));
    const Result<void> added = sealer.add(rest);
    if (!added) return added.error();
    return rest.size();
  }
  return std::size_t{0};
}

void Channel::write_sealed() {
  writing_ = true;
  const ByteView rest = ByteView(sealed_).subspan(sealed_written_);
  socket_.async_write_some(
      asio::const_buffer(rest.data(), rest.size()),
      [self = shared_from_this()](std::error_code error, std::size_t bytes) {
        self->writing_ = false;
        if (!self->socket_.is_open()) return;
        if (error) return self->lose({Errc::connection_lost, "sending failed: " + error.message()});
        self->wrote(bytes);
      });
}

void Channel::wrote(std::size_t bytes) {
  sealed_written_ += bytes;
  const bool all = sealed_written_ == sealed_.size();
  if (all) queued_bytes_ -= std::exchange(sealed_frame_bytes_, 0);
  if (!all || !outgoing_.empty()) last_progress_ = shared_->clock.now();
  if (!all) return write_sealed();
  if (outgoing_.empty() && sealed_.capacity() > kKeepBytes) sealed_ = {};
  write();
}

// ---- in ----

void Channel::read() {
  if (reading_ || !socket_.is_open()) return;
  reading_ = true;
  const MutableByteView room = tls_->room();
  socket_.async_read_some(
      asio::mutable_buffer(room.data(), room.size()),
      [self = shared_from_this()](std::error_code error, std::size_t bytes) {
        self->reading_ = false;
        if (!self->socket_.is_open()) return;
        if (error) {
          const bool half = self->incoming_.begun();
          const std::string how =
              error == asio::error::eof ? "closed by the remote" : error.message();
          return self->lose({Errc::connection_lost, half ? how + " in mid-frame" : how});
        }
        self->last_progress_ = self->shared_->clock.now();
        if (self->lingering_) return self->read();  // unread by TLS: the room is free again
        self->tls_->arrived(bytes);
        self->arrived();
      });
}

void Channel::arrived() {
  take_frames();
  if (is_open()) write();  // what TLS answers by itself
  read();
}

// Decrypts what has arrived to where it belongs and hands on every complete frame.
void Channel::take_frames() {
  while (is_open()) {
    const MutableByteView rest = incoming_.rest();
    const Result<std::size_t> got = tls_->read(rest);
    if (!got) return lose(got.error());
    if (*got == 0) break;
    incoming_.filled += *got;
    if (*got < rest.size()) continue;
    if (!incoming_.sized) {
      const Result<void> sized = size_frame();
      if (!sized) return refuse(sized.error());
    }
    if (incoming_.rest().empty()) hand_on();
  }
  if (is_open() && incoming_.begun()) watch_frame();
}

// Reads the prefix and takes memory for the frame if it is within bounds.
Result<void> Channel::size_frame() {
  const Result<wire::FramePrefix> prefix = wire::decode_prefix(incoming_.prefix);
  if (!prefix) return prefix.error();
  if (prefix->payload_bytes > payload_limit_) {
    return {Errc::frame_too_large,
            "payload of " + std::to_string(prefix->payload_bytes) + " bytes before hello"};
  }
  incoming_.frame.verb = prefix->verb;
  incoming_.frame.reply = prefix->reply;
  incoming_.frame.stream = prefix->stream;
  incoming_.sized = true;
  try {
    incoming_.frame.header.resize(prefix->header_bytes);
    incoming_.payload = AlignedBuffer(prefix->payload_bytes);
  } catch (const std::bad_alloc&) {
    return {Errc::out_of_memory, "no memory for a frame"};
  }
  return {};
}

void Channel::hand_on() {
  Incoming complete = std::exchange(incoming_, Incoming{});
  if (complete.payload.size() > 0) complete.frame.payload = Payload(std::move(complete.payload));
  frame_due_.reset();
  events_->deliver(std::move(complete.frame));
}

// A frame that has begun must arrive within kFrameTimeout. One timer at most is set a link, and
// none is moved while frames arrive in time.
void Channel::watch_frame() {
  if (frame_due_) return;
  frame_due_ = shared_->clock.now() + kFrameTimeout;
  if (!watching_) watch_at(*frame_due_);
}

void Channel::watch_at(TimePoint when) {
  watching_ = true;
  shared_->clock.call_at(when, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->watching_ = false;
    if (!self->frame_due_ || !self->is_open()) return;
    if (self->shared_->clock.now() < *self->frame_due_) return self->watch_at(*self->frame_due_);
    self->lose({Errc::timeout, "the remote stopped in mid-frame"});
  });
}

// ---- the end ----

// The remote broke the framing. It is told why, unless it never spoke our protocol.
void Channel::refuse(const Error& error) {
  if (error.code != Errc::bad_magic) {
    wire::ErrorMessage message;
    message.code = error.code;
    message.detail = error.detail;
    Frame frame;
    frame.verb = wire::Verb::error;
    frame.header = wire::encode(message);
    enqueue(std::move(frame));
  }
  close(error);
}

void Channel::lose(Error reason) {
  events_->end(std::move(reason));
  close_socket();
}

void Channel::close(Error reason) {
  if (!is_open()) return;
  events_->end(std::move(reason));
  linger();
}

void Channel::drop() {
  const bool was_open = is_open();
  events_->drop();
  if (was_open) linger();
}

// Lets the last frames leave. The remote's own frames are read and discarded meanwhile: unread
// bytes at close would make the kernel reset the connection and lose what the remote has not
// read yet.
void Channel::linger() {
  if (shared_->ended) return close_socket();
  lingering_ = true;
  shared_->clock.call_at(shared_->clock.now() + kLinger, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close_socket();
  });
  incoming_ = {};
  write();
  if (reading_) return;
  tls_->arrived(0);
  read();
}

// A read or write under way may still use the buffers of TLS; they go with this object.
void Channel::close_socket() {
  std::error_code ignored;
  socket_.close(ignored);
  incoming_ = {};
  outgoing_.clear();
  queued_bytes_ = 0;
}

class TcpLink final : public Link {
 public:
  TcpLink(std::shared_ptr<Channel> channel, std::string remote_address, std::string endpoint,
          LinkIdentity identity)
      : channel_(std::move(channel)),
        remote_address_(std::move(remote_address)),
        remote_endpoint_(std::move(endpoint)),
        identity_(std::move(identity)) {}
  ~TcpLink() override { channel_->drop(); }

  void start(std::function<void(Frame)> on_frame, std::function<void(Error)> on_close) override {
    channel_->start(std::move(on_frame), std::move(on_close));
  }
  Result<void> send(Frame frame) override { return channel_->send(std::move(frame)); }
  void close(Error reason) override { channel_->close(std::move(reason)); }
  void limit_payload(std::uint32_t bytes) override { channel_->limit_payload(bytes); }
  std::size_t queued_bytes() const noexcept override { return channel_->queued_bytes(); }
  bool is_open() const noexcept override { return channel_->is_open(); }
  TimePoint last_progress() const noexcept override { return channel_->last_progress(); }
  const std::string& remote_address() const noexcept override { return remote_address_; }
  std::string remote_endpoint() const override { return remote_endpoint_; }
  const LinkIdentity& identity() const noexcept override { return identity_; }

 private:
  std::shared_ptr<Channel> channel_;
  std::string remote_address_;
  std::string remote_endpoint_;
  LinkIdentity identity_;
};

}  // namespace

std::shared_ptr<Link> make_tcp_link(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket,
                                    std::unique_ptr<TlsSession> tls, std::string remote_address,
                                    std::optional<AcceptGate::Ticket> ticket) {
  std::error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  LinkIdentity identity{shared->self.key.id(), tls->remote_id(), shared->self.mesh};
  std::error_code gone;
  const asio::ip::tcp::endpoint remote = socket.remote_endpoint(gone);
  auto channel = std::make_shared<Channel>(std::move(shared), std::move(socket), std::move(tls),
                                           std::move(ticket));
  return std::make_shared<TcpLink>(std::move(channel), std::move(remote_address),
                                   gone ? std::string() : format_endpoint(remote),
                                   std::move(identity));
}

}  // namespace farmesh::net
