// farmesh bench hop: what a peer adds to the network between two others.
#include "cli/bench.hpp"
#include "net/hop_bench.hpp"

namespace farmesh::cli {

Result<Rows> bench_hop(const BenchOptions&) {
  const Result<net::HopBenchResult> measured = net::hop_bench();
  if (!measured) return measured.error();
  const net::HopBenchResult& us = *measured;

  const auto row = [&us](std::string what, double value) {
    BenchRow row;
    row.bench = "hop";
    row.what = std::move(what);
    row.value = value;
    row.beside = "bare TCP ping-pong, 8 KiB";
    row.other = us.bare.p50_us;
    row.unit = "µs p50";
    return row;
  };
  BenchRow framed = row("framed", us.framed.p50_us);
  BenchRow hop = row("through an empty peer", us.hop.p50_us);
  hop.bound = "ratio at most 3, under 100 µs";
  hop.held = hop.ratio() <= 3 && hop.value < 100;
  return Rows{std::move(framed), std::move(hop)};
}

}  // namespace farmesh::cli
