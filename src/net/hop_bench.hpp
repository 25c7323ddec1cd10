// What a hop costs beside the bare socket it stands on, measured over loopback in one run.
//
// Bare: N bytes to an echoing thread and back, plain asio. Bare TLS: the same through OpenSSL on
// the socket, with the mesh's settings. Framed: the same bytes as a frame through two links, which
// are encrypted. Hop: the same through two connections, where the far side does all that
// a peer with no layers would do: verify and decode the step, check shape and values, answer.
//
// Threads are pinned, all to one core or each side to its own: left alone, the scheduler places
// each pair anew, and to wake an idle core costs more than what is to be compared.
#pragma once

#include <cstddef>

#include <farmesh/result.hpp>

namespace farmesh::net {

struct HopBenchOptions {
  std::size_t payload_bytes = 8'192;  // a multiple of 4
  int rounds = 20;                    // the kinds take turns, so that noise hits all alike
  int trips = 200;                    // of each kind in one round
  bool two_cores = false;             // the sides of each pair on one core, or on two
  /// Read before the trips of each kind in a round: with one trip, it takes its code and data from
  /// memory, as a stage's frames do whose weights have passed through the caches.
  std::size_t read_between = 0;
};

struct TripTimes {
  double p50_us = 0;
  double p99_us = 0;
};

struct HopBenchResult {
  TripTimes bare;
  TripTimes bare_tls;
  TripTimes framed;
  TripTimes hop;
};

/// Blocks for a second or so and starts threads of its own. Fails as sockets do.
Result<HopBenchResult> hop_bench(const HopBenchOptions& options = {});

}  // namespace farmesh::net
