// A worse network between real processes of one machine: a TCP proxy that delays, thins out, holds
// back and cuts what passes. What sim_transport.hpp does to frames, done to bytes.
//
// For tests, and `farmesh sim proxy`. Threading: confined to the clock's executor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <farmesh/result.hpp>

#include "net/clock.hpp"
#include "net/sim_transport.hpp"

namespace farmesh::net {

struct RoughRoadOptions {
  std::string listen = "127.0.0.1:0";
  std::string to;  // "HOST:PORT", numeric
  /// `loss` is of pieces of 16 KiB at most, each of which comes later, as TCP sends it again.
  SimConditions conditions;
  Duration cut_after{};  // from the start nothing passes any more, silently; zero: never
  Duration cut_for{};    // then what was held back goes on; zero: for good
  std::uint64_t seed = 1;
};

struct RoughRoadStats {
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;   // that have passed, both ways
  std::uint64_t resent = 0;  // pieces that came later
};

class RoughRoad {
 public:
  /// Fails with address_invalid or io_error.
  static Result<std::unique_ptr<RoughRoad>> open(Clock& clock, const RoughRoadOptions& options);
  ~RoughRoad();  // ends every connection

  const std::string& address() const noexcept;  // that it listens at
  void cut(bool on);                            // now, whatever the options say
  RoughRoadStats stats() const noexcept;

 private:
  struct State;
  explicit RoughRoad(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with connections
};

}  // namespace farmesh::net
