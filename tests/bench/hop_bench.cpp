// Prints what a hop over loopback costs beside a bare TCP ping-pong of the same size.
#include "net/hop_bench.hpp"

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  farmesh::net::HopBenchOptions options;
  if (argc > 1) options.payload_bytes = std::strtoul(argv[1], nullptr, 10) / 4 * 4;
  const auto result = farmesh::net::hop_bench(options);
  if (!result) {
    std::fprintf(stderr, "hop bench: %s\n", result.error().to_string().c_str());
    return 1;
  }
  const auto row = [&](const char* what, farmesh::net::TripTimes times) {
    std::printf("%-8s %8.1f us p50 %8.1f us p99 %6.2f x\n", what, times.p50_us, times.p99_us,
                times.p50_us / result->bare.p50_us);
  };
  std::printf("round trip of %zu bytes over loopback\n", options.payload_bytes);
  row("bare", result->bare);
  row("bare tls", result->bare_tls);
  row("framed", result->framed);
  row("hop", result->hop);
  return 0;
}
