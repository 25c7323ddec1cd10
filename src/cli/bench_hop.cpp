// farmesh bench hop: what a peer adds to the network between two others.
#include "cli/bench.hpp"
#include "net/hop_bench.hpp"

namespace farmesh::cli {

Result<Rows> bench_hop(const BenchOptions&) {
  const Result<net::HopBenchResult> measured = net::hop_bench();
  if (!measured) return measured.error();
  const net::HopBenchResult& us = *measured;

  const auto row = [](std::string what, double value, std::string beside, double other) {
    BenchRow row;
    row.bench = "hop";
    row.what = std::move(what);
    row.value = value;
    row.beside = std::move(beside);
    row.other = other;
    row.unit = "µs p50";
    return row;
  };
  const std::string tcp = "bare TCP ping-pong, 8 KiB";
  const std::string tls = "bare TLS ping-pong, 8 KiB";
  BenchRow bare_tls = row("bare TLS", us.bare_tls.p50_us, tcp, us.bare.p50_us);
  BenchRow framed = row("framed, over TLS", us.framed.p50_us, tls, us.bare_tls.p50_us);
  BenchRow hop = row("through an empty peer", us.hop.p50_us, tls, us.bare_tls.p50_us);
  BenchRow hop_tcp = row("through an empty peer", us.hop.p50_us, tcp, us.bare.p50_us);
  hop_tcp.bound = "ratio at most 3, under 100 µs";
  hop_tcp.held = hop_tcp.ratio() <= 3 && hop_tcp.value < 100;
  return Rows{std::move(bare_tls), std::move(framed), std::move(hop), std::move(hop_tcp)};
}

}  // namespace farmesh::cli
