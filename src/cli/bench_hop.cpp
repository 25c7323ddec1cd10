// farmesh bench hop: what a peer adds to the network between two others.
#include "base/thread.hpp"
#include "cli/bench.hpp"
#include "net/hop_bench.hpp"

namespace farmesh::cli {
namespace {

constexpr std::size_t kColdBytes = 256 << 20;  // of weights between two trips

// The same trips where nothing of them is left in a cache, as in a chain: what it loses to its
// links is these, and sockets' own part of them is bare TLS.
Result<Rows> cold_rows() {
  net::HopBenchOptions options;
  options.rounds = 60;
  options.trips = 1;
  options.read_between = kColdBytes;
  const Result<net::HopBenchResult> us = net::hop_bench(options);
  if (!us) return us.error();
  BenchRow tls{
      "hop",           "1 core", "bare TLS, cold", us->bare_tls.p50_us, "bare TCP ping-pong, 8 KiB",
      us->bare.p50_us, "µs p50"};
  BenchRow hop{"hop",
               "1 core",
               "through an empty peer, cold",
               us->hop.p50_us,
               "bare TLS ping-pong, 8 KiB",
               us->bare_tls.p50_us,
               "µs p50"};
  return Rows{std::move(tls), std::move(hop)};
}

Result<Rows> rows_on(int cores) {
  net::HopBenchOptions options;
  options.two_cores = cores == 2;
  const Result<net::HopBenchResult> measured = net::hop_bench(options);
  if (!measured) return measured.error();
  const net::HopBenchResult& us = *measured;

  const auto row = [cores](std::string what, double value, std::string beside, double other) {
    BenchRow row;
    row.bench = "hop";
    row.shape = cores == 2 ? "2 cores" : "1 core";
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
  // Across cores the time is that of waking an idle one, of which the bare trip has as much.
  hop_tcp.bound = cores == 1 ? "ratio at most 3, under 100 µs" : "ratio at most 3";
  hop_tcp.held = hop_tcp.ratio() <= 3 && (cores == 2 || hop_tcp.value < 100);
  // What a hop would take in the clear: the mesh has no such mode, TLS alone adds the difference of
  // the two bare trips.
  BenchRow clear = row("the same less what TLS adds",
                       us.hop.p50_us - (us.bare_tls.p50_us - us.bare.p50_us), tcp, us.bare.p50_us);
  clear.bound = "ratio at most 2";
  clear.held = clear.ratio() <= 2;
  hop.bound = "ratio at most 1.5";
  hop.held = hop.ratio() <= 1.5;
  return Rows{std::move(bare_tls), std::move(framed), std::move(hop), std::move(hop_tcp),
              std::move(clear)};
}

}  // namespace

Result<Rows> bench_hop(const BenchOptions&) {
  Result<Rows> rows = rows_on(1);
  if (!rows) return rows;
  const Result<Rows> cold = cold_rows();
  if (!cold) return cold;
  rows->insert(rows->end(), cold->begin(), cold->end());
  if (available_cores() < 2) return rows;
  Result<Rows> apart = rows_on(2);
  if (!apart) return apart;
  rows->insert(rows->end(), apart->begin(), apart->end());
  return rows;
}

}  // namespace farmesh::cli
