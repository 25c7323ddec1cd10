// Where the network thread hands tokens to the caller's: the one seam between the two.
//
// Takes tokens from conversation.hpp, gives them to the public TokenStream. The writer never
// waits; it asks full() and stays away (gated_head.hpp). Safe from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

#include "base/types.hpp"
#include "client/turn_meter.hpp"
#include "wire/messages.hpp"

namespace farmesh::client {

class TokenQueue {
 public:
  /// `on_room` is called by a reader, without any lock, when a full queue has emptied by half.
  TokenQueue(std::size_t capacity, TurnMeter meter, std::function<void()> on_room);
  /// A turn that failed before it began.
  explicit TokenQueue(Error error);

  // --- the writer
  void push(Token token, const wire::TokenMessage& message, TimePoint now);
  /// One that was made before this turn: told, not counted.
  void push_again(Token token);
  /// Before the first token: who computed the prompt, where that is known.
  void prompt_made(std::vector<RouteUsage> routes);
  /// The end, proper or not. Nothing may follow.
  void finish(FinishReason reason, std::uint32_t recoveries);
  void fail(Error error, std::uint32_t recoveries);
  bool full() const;
  bool cancelled() const;

  // --- the reader
  /// Waits. Nothing at the end, or after cancel().
  Result<std::optional<Token>> pop();
  bool wait(std::chrono::milliseconds at_most) const;  // as TokenStream has them
  void on_ready(std::function<void()> wake);
  /// Drops what waits and ends the stream for the reader; the writer learns of it later. False
  /// when the turn had ended already.
  bool cancel();
  /// Waits until the writer has ended the turn.
  void wait_ended() const;
  bool ended() const;
  Usage usage() const;
  std::optional<Error> error() const;

 private:
  bool ready() const { return !tokens_.empty() || ended_ || cancelled_; }
  void wake(std::unique_lock<std::mutex> lock);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  const std::size_t capacity_;
  const std::function<void()> on_room_;
  std::deque<Token> tokens_;
  std::function<void()> wake_;
  TurnMeter meter_;
  std::optional<Error> error_;
  bool ended_ = false;
  bool cancelled_ = false;
};

}  // namespace farmesh::client
