// Counts what a turn used: tokens, times, hops. Takes token messages from driver/ or a remote
// head, gives the public Usage. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include <farmesh/session.hpp>

#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::client {

class TurnMeter {
 public:
  TurnMeter(TimePoint began, std::uint32_t prompt_tokens);

  /// Who computed the prompt. Without it, all of that counts for the route of the first token.
  void prompt_made(std::vector<RouteUsage> routes);
  void record(const wire::TokenMessage& message, TimePoint now);
  void finish(FinishReason reason, std::uint32_t recoveries);

  Usage usage() const;

 private:
  struct Hop {
    wire::Hop hop;
    std::uint64_t microseconds = 0;
    std::uint32_t tokens = 0;
  };
  void take_route(const std::vector<wire::Hop>& route);

  TimePoint began_;
  TimePoint first_{};
  TimePoint last_{};
  Usage usage_;
  bool prompt_known_ = false;
  std::vector<Hop> hops_;
};

}  // namespace farmesh::client
