#include "net/tcp_link.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <utility>

#include <asio/buffer.hpp>

#include "net/link_events.hpp"
#include "net/tcp_transport.hpp"
#include "wire/messages.hpp"

namespace farmesh::net {
namespace {

using wire::Frame;

// Prefixes, and whatever arrives in the same read. An activation of one token mostly fits, which
// costs a copy of a few KiB and saves a system call; of larger payloads only the part that came
// with the prefix is copied.
constexpr std::size_t kReadBufferBytes = 16u << 10;
constexpr std::size_t kMaxGather = 48;  // buffers in one write, three a frame
constexpr std::chrono::seconds kLinger{1};

// The buffers of one write. Asio copies the sequence it is given; this one is two pointers.
struct Gather {
  const asio::const_buffer* first;
  const asio::const_buffer* last;
  const asio::const_buffer* begin() const noexcept { return first; }
  const asio::const_buffer* end() const noexcept { return last; }
};

// A frame on its way out.
struct Outgoing {
  std::array<std::byte, wire::kPrefixBytes> prefix;
  Frame frame;
};

// A frame on its way in: its prefix has been read and found within bounds.
struct Incoming {
  Frame frame;  // without its payload
  AlignedBuffer payload;
  std::size_t header_filled = 0;
  std::size_t payload_filled = 0;

  MutableByteView header_rest() { return MutableByteView(frame.header).subspan(header_filled); }
  MutableByteView payload_rest() { return payload.view().subspan(payload_filled); }

  /// Takes what belongs to this frame from the front of `bytes`.
  std::size_t fill(ByteView bytes) {
    const std::size_t header_part = std::min(bytes.size(), header_rest().size());
    if (header_part > 0) std::memcpy(header_rest().data(), bytes.data(), header_part);
    const ByteView after = bytes.subspan(header_part);
    const std::size_t payload_part = std::min(after.size(), payload_rest().size());
    if (payload_part > 0) std::memcpy(payload_rest().data(), after.data(), payload_part);
    return arrived(header_part + payload_part);
  }

  /// Counts bytes that were read into place.
  std::size_t arrived(std::size_t bytes) {
    const std::size_t header_part = std::min(bytes, header_rest().size());
    header_filled += header_part;
    const std::size_t payload_part = std::min(bytes - header_part, payload_rest().size());
    payload_filled += payload_part;
    return header_part + payload_part;
  }

  bool complete() { return header_rest().empty() && payload_rest().empty(); }
};

// The socket with its two loops. It outlives its link for a moment when the last frames are
// still to be sent; the loops' handlers keep it alive.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  Channel(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket, bool accepted)
      : shared_(std::move(shared)),
        socket_(std::move(socket)),
        events_(std::make_shared<LinkEvents>(socket_.get_executor())),
        accepted_(accepted) {
    if (accepted_) ++shared_->accepted_links;
  }
  ~Channel() {
    if (accepted_) --shared_->accepted_links;
  }

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
  void wrote(std::size_t bytes);
  void write_on();
  void read();
  void arrived(std::size_t bytes);
  void take_frames();
  Result<void> begin_frame();
  void watch_frame();
  void watch_at(TimePoint when);
  void refuse(const Error& error);
  void lose(Error reason);
  void linger();
  void discard();
  void close_socket();

  std::shared_ptr<TcpShared> shared_;
  asio::ip::tcp::socket socket_;
  std::shared_ptr<LinkEvents> events_;
  const bool accepted_;
  bool lingering_ = false;  // ended by this side; the last frames leave, what comes is discarded
  TimePoint last_progress_ = TimePoint::min();

  std::deque<Outgoing> outgoing_;
  std::size_t queued_bytes_ = 0;
  std::size_t front_written_ = 0;  // bytes of the first outgoing frame
  bool writing_ = false;
  std::array<asio::const_buffer, kMaxGather> gather_;

  std::uint32_t payload_limit_ = wire::kMaxPayloadBytes;
  std::unique_ptr<std::byte[]> buffer_;  // [buffer_begin_, buffer_end_) is unread
  std::size_t buffer_begin_ = 0;
  std::size_t buffer_end_ = 0;
  std::optional<Incoming> incoming_;
  std::optional<TimePoint> frame_due_;  // when the frame that has begun must be complete
  bool watching_ = false;               // a timer for it is set
};

void Channel::start(std::function<void(Frame)> on_frame, std::function<void(Error)> on_close) {
  events_->start(std::move(on_frame), std::move(on_close));
  if (events_->ended()) return;
  buffer_ = std::make_unique<std::byte[]>(kReadBufferBytes);
  read();
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
  if (writing_ || outgoing_.empty() || !socket_.is_open()) return;
  std::size_t count = 0;
  std::size_t skip = front_written_;
  for (const Outgoing& out : outgoing_) {
    if (count + 3 > kMaxGather) break;
    for (const ByteView part :
         {ByteView(out.prefix), ByteView(out.frame.header), out.frame.payload.view()}) {
      const std::size_t skipped = std::min(skip, part.size());
      skip -= skipped;
      const ByteView rest = part.subspan(skipped);
      if (!rest.empty()) gather_[count++] = asio::const_buffer(rest.data(), rest.size());
    }
  }
  writing_ = true;
  const Gather buffers{gather_.data(), gather_.data() + count};
  socket_.async_write_some(
      buffers, [self = shared_from_this()](std::error_code error, std::size_t bytes) {
        self->writing_ = false;
        if (!self->socket_.is_open()) return;
        if (error) return self->lose({Errc::connection_lost, "sending failed: " + error.message()});
        self->wrote(bytes);
      });
}

void Channel::wrote(std::size_t bytes) {
  queued_bytes_ -= bytes;
  front_written_ += bytes;
  while (!outgoing_.empty() && front_written_ >= outgoing_.front().frame.wire_bytes()) {
    front_written_ -= outgoing_.front().frame.wire_bytes();
    outgoing_.pop_front();
  }
  if (!outgoing_.empty()) last_progress_ = shared_->clock.now();
  write_on();
}

void Channel::write_on() {
  if (!outgoing_.empty()) return write();
  if (!lingering_) return;
  std::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
}

// ---- in ----

// Reads into place what the frame that has begun still lacks, and what follows into the buffer.
void Channel::read() {
  if (!socket_.is_open()) return;
  if (lingering_) discard();
  std::array<asio::mutable_buffer, 3> buffers;
  if (incoming_) {
    const MutableByteView header = incoming_->header_rest();
    const MutableByteView payload = incoming_->payload_rest();
    buffers[0] = asio::mutable_buffer(header.data(), header.size());
    buffers[1] = asio::mutable_buffer(payload.data(), payload.size());
  }
  buffers[2] = asio::mutable_buffer(buffer_.get() + buffer_end_, kReadBufferBytes - buffer_end_);
  socket_.async_read_some(buffers, [self = shared_from_this()](std::error_code error,
                                                               std::size_t bytes) {
    if (!self->socket_.is_open()) return;
    if (error) {
      const bool half = self->incoming_ || self->buffer_end_ > self->buffer_begin_;
      const std::string how = error == asio::error::eof ? "closed by the remote" : error.message();
      return self->lose({Errc::connection_lost, half ? how + " in mid-frame" : how});
    }
    self->arrived(bytes);
  });
}

void Channel::arrived(std::size_t bytes) {
  if (lingering_) return read();
  last_progress_ = shared_->clock.now();
  if (incoming_) bytes -= incoming_->arrived(bytes);
  buffer_end_ += bytes;
  take_frames();
  read();
}

// Hands on every complete frame; leaves the buffer with room for at least a prefix.
void Channel::take_frames() {
  while (is_open()) {
    if (!incoming_) {
      if (buffer_end_ - buffer_begin_ < wire::kPrefixBytes) break;
      const Result<void> begun = begin_frame();
      if (!begun) return refuse(begun.error());
    }
    if (!incoming_->complete()) break;
    Frame frame = std::move(incoming_->frame);
    if (incoming_->payload.size() > 0) frame.payload = Payload(std::move(incoming_->payload));
    incoming_.reset();
    frame_due_.reset();
    events_->deliver(std::move(frame));
  }
  const std::size_t left = buffer_end_ - buffer_begin_;
  if (left > 0 && buffer_begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + buffer_begin_, left);
  }
  buffer_begin_ = 0;
  buffer_end_ = left;
  if (is_open() && (incoming_ || left > 0)) watch_frame();
}

// Decodes the prefix at the front of the buffer, takes memory for the frame if it is within
// bounds, and fills in what has arrived of it.
Result<void> Channel::begin_frame() {
  const ByteView unread(buffer_.get() + buffer_begin_, buffer_end_ - buffer_begin_);
  const Result<wire::FramePrefix> prefix = wire::decode_prefix(unread.first<wire::kPrefixBytes>());
  if (!prefix) return prefix.error();
  if (prefix->payload_bytes > payload_limit_) {
    return {Errc::frame_too_large,
            "payload of " + std::to_string(prefix->payload_bytes) + " bytes before hello"};
  }
  Incoming& incoming = incoming_.emplace();
  incoming.frame.verb = prefix->verb;
  incoming.frame.reply = prefix->reply;
  incoming.frame.stream = prefix->stream;
  try {
    incoming.frame.header.resize(prefix->header_bytes);
    incoming.payload = AlignedBuffer(prefix->payload_bytes);
  } catch (const std::bad_alloc&) {
    return {Errc::out_of_memory, "no memory for a frame"};
  }
  buffer_begin_ += wire::kPrefixBytes + incoming.fill(unread.subspan(wire::kPrefixBytes));
  return {};
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
  if (!writing_) write_on();
  if (!buffer_) {
    buffer_ = std::make_unique<std::byte[]>(kReadBufferBytes);
    read();
  }
}

// Only while no read is under way: the kernel may write into what this frees.
void Channel::discard() {
  incoming_.reset();
  buffer_begin_ = buffer_end_ = 0;
}

void Channel::close_socket() {
  std::error_code ignored;
  socket_.close(ignored);
  discard();
  outgoing_.clear();
  queued_bytes_ = 0;
}

class TcpLink final : public Link {
 public:
  TcpLink(std::shared_ptr<Channel> channel, std::string remote_address)
      : channel_(std::move(channel)), remote_address_(std::move(remote_address)) {}
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

 private:
  std::shared_ptr<Channel> channel_;
  std::string remote_address_;
};

}  // namespace

std::shared_ptr<Link> make_tcp_link(std::shared_ptr<TcpShared> shared, asio::ip::tcp::socket socket,
                                    std::string remote_address, bool accepted) {
  std::error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  auto channel = std::make_shared<Channel>(std::move(shared), std::move(socket), accepted);
  return std::make_shared<TcpLink>(std::move(channel), std::move(remote_address));
}

}  // namespace farmesh::net
