// What every link owes its owner, in one place: frames in order, on_close once and last and
// never inline, and safety when a callback drops the link it was called from.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <asio/post.hpp>

#include "base/assert.hpp"
#include "net/link.hpp"

namespace farmesh::net {

class LinkEvents : public std::enable_shared_from_this<LinkEvents> {
 public:
  explicit LinkEvents(Executor executor) : executor_(std::move(executor)) {}

  void start(std::function<void(wire::Frame)> on_frame, std::function<void(Error)> on_close) {
    FARMESH_ASSERT(!callbacks_ && !dropped_);
    callbacks_ = std::make_shared<Callbacks>(Callbacks{std::move(on_frame), std::move(on_close)});
    if (ended_) post_close();
  }

  /// Hands the frame on at once. Not from inside start() or send().
  void deliver(wire::Frame frame) {
    const std::shared_ptr<Callbacks> callbacks = callbacks_;  // outlives a drop() inside
    if (callbacks && !ended_) callbacks->on_frame(std::move(frame));
  }

  /// The first reason counts.
  void end(Error reason) {
    if (ended_ || dropped_) return;
    ended_ = std::move(reason);
    if (callbacks_) post_close();
  }

  /// The owner has gone: nothing is called any more.
  void drop() {
    dropped_ = true;
    callbacks_.reset();
  }

  bool started() const noexcept { return callbacks_ != nullptr; }
  bool ended() const noexcept { return ended_.has_value() || dropped_; }

  /// Why nothing can be sent. Only when ended().
  Error reason() const { return ended_ ? *ended_ : Error{Errc::closed, "the link was dropped"}; }

 private:
  struct Callbacks {
    std::function<void(wire::Frame)> on_frame;
    std::function<void(Error)> on_close;
  };

  void post_close() {
    asio::post(executor_, [self = shared_from_this()] {
      const std::shared_ptr<Callbacks> callbacks = std::exchange(self->callbacks_, nullptr);
      if (callbacks) callbacks->on_close(*self->ended_);
    });
  }

  Executor executor_;
  std::shared_ptr<Callbacks> callbacks_;
  std::optional<Error> ended_;
  bool dropped_ = false;
};

/// What send() refuses on every kind of link, before the frame is looked at further.
inline Result<void> check_sendable(const wire::Frame& frame, const LinkEvents& events,
                                   std::size_t queued_bytes, const LinkLimits& limits) {
  if (events.ended()) return events.reason();
  if (frame.header.size() > wire::kMaxHeaderBytes ||
      frame.payload.size() > wire::kMaxPayloadBytes) {
    return {Errc::frame_too_large, "frame of " + std::to_string(frame.wire_bytes()) + " bytes"};
  }
  if (queued_bytes + frame.wire_bytes() > limits.max_queued_bytes) {
    return {Errc::busy, std::to_string(queued_bytes) + " bytes are queued on the link"};
  }
  return {};
}

}  // namespace farmesh::net
