// farmesh sim: what a swarm of given nodes would do with a load, in virtual time.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/json.hpp"
#include "cli/stop_request.hpp"
#include "cli/verbs.hpp"
#include "net/rough_road.hpp"
#include "net/runtime.hpp"
#include "node/swarm_load.hpp"

namespace farmesh::cli {
namespace {

/// A network, as both verbs describe it.
struct NetworkFlags {
  double latency_ms = 0;
  double jitter_ms = 0;
  double megabytes_per_second = 0;
  double loss = 0;
};

struct SimFlags {
  std::vector<std::string> nodes{"12:4:0.5"};
  std::uint32_t sessions = 20;
  std::uint32_t prompt_tokens = 32;
  std::uint32_t tokens = 64;
  double seconds = 30;
  double kill_every = 0;
  NetworkFlags network{10, 2};
  double drift = 0;
  bool standby = false;
  std::uint64_t seed = 1;
  bool json = false;
};

Duration milliseconds(double ms) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

net::SimConditions conditions_of(const NetworkFlags& flags) {
  return {milliseconds(flags.latency_ms), milliseconds(flags.jitter_ms),
          flags.megabytes_per_second * 1e6, flags.loss};
}

/// `link` and `lost`: what has the bandwidth, and what is sent again.
void add_network_flags(CLI::App& verb, NetworkFlags& flags, const std::string& link,
                       const std::string& lost) {
  add_option_with_default(verb, "--latency", flags.latency_ms, "One way, every " + link, "MS")
      ->check(CLI::Range(0.0, 10'000.0));
  add_option_with_default(verb, "--jitter", flags.jitter_ms, "At most, on top", "MS")
      ->check(CLI::Range(0.0, 10'000.0));
  add_option_with_default(verb, "--bandwidth", flags.megabytes_per_second,
                          "Of a " + link + ", one way; 0: no limit", "MB/S")
      ->check(CLI::Range(0.0, 1e6));
  add_option_with_default(verb, "--loss", flags.loss, "Share of " + lost + " that are sent again",
                          "N")
      ->check(CLI::Range(0.0, 0.5));
}

/// "COUNT:LAYERS:MS".
Result<sim::NodeKind> kind_of(const std::string& text) {
  sim::NodeKind kind;
  double ms = 0;
  int read = 0;
  const int fields =
      std::sscanf(text.c_str(), "%u:%u:%lf%n", &kind.count, &kind.layers, &ms, &read);
  if (fields != 3 || std::size_t(read) != text.size() || kind.count == 0 || kind.count > 1'000 ||
      !(ms >= 0 && ms <= 60'000)) {
    return {Errc::invalid_argument, "'" + text + "' is not COUNT:LAYERS:MS, such as 12:4:0.5"};
  }
  kind.layer_time = milliseconds(ms);
  return kind;
}

Result<sim::Load> load_of(const SimFlags& flags) {
  sim::Load load;
  load.kinds.clear();
  for (const std::string& text : flags.nodes) {
    const Result<sim::NodeKind> kind = kind_of(text);
    if (!kind) return kind.error();
    load.kinds.push_back(*kind);
  }
  load.network = conditions_of(flags.network);
  load.sessions = flags.sessions;
  load.prompt_tokens = flags.prompt_tokens;
  load.tokens = flags.tokens;
  load.duration = milliseconds(1'000 * flags.seconds);
  load.kill_every = milliseconds(1'000 * flags.kill_every);
  load.drift = flags.drift;
  load.warm_standby = flags.standby;
  load.seed = flags.seed;
  return load;
}

nlohmann::ordered_json json_of(const sim::LoadReport& report) {
  return {{"sessions", report.started},
          {"completed", report.completed},
          {"tokens", report.tokens},
          {"seconds", report.seconds},
          {"tokens_per_second", report.tokens_per_second()},
          {"p50_ms", report.p50_ms},
          {"p99_ms", report.p99_ms},
          {"longest_ms", report.longest_ms},
          {"kills", report.kills},
          {"recoveries", report.recoveries},
          {"failures", report.failures}};
}

int simulate(const SimFlags& flags) {
  const Result<sim::Load> load = load_of(flags);
  if (!load) return report(load.error());
  const Result<sim::LoadReport> result = sim::run_load(*load);
  if (!result) return report(result.error());
  if (flags.json) {
    fmt::print("{}", to_line(json_of(*result)));
  } else {
    fmt::print("{:<24} {} of {}\n", "sessions completed", result->completed, result->started);
    fmt::print("{:<24} {} in {:.1f} s, {:.1f} a second\n", "tokens", result->tokens,
               result->seconds, result->tokens_per_second());
    fmt::print("{:<24} {:.1f} ms p50, {:.1f} ms p99, {:.1f} ms the longest\n", "time per token",
               result->p50_ms, result->p99_ms, result->longest_ms);
    fmt::print("{:<24} {} peers killed, {} recoveries\n", "failures", result->kills,
               result->recoveries);
    for (const std::string& failure : result->failures) fmt::print("{:<24} {}\n", "lost", failure);
  }
  return result->completed == result->started ? kSuccess : kFailure;
}

struct ProxyFlags {
  std::string listen = "127.0.0.1:0";
  std::string to;
  NetworkFlags network;
  double cut_after = 0;
  double cut_for = 0;
  std::uint64_t seed = 1;
};

int proxy(const ProxyFlags& flags) {
  StopRequest stop;
  net::RoughRoadOptions options;
  options.listen = flags.listen;
  options.to = flags.to;
  options.conditions = conditions_of(flags.network);
  options.cut_after = milliseconds(1'000 * flags.cut_after);
  options.cut_for = milliseconds(1'000 * flags.cut_for);
  options.seed = flags.seed;
  net::Runtime runtime;
  Result<std::unique_ptr<net::RoughRoad>> road = Error{Errc::io_error, {}};
  runtime.run_blocking([&] { road = net::RoughRoad::open(runtime.clock(), options); });
  if (!road) return report(road.error());
  stop.ready();
  fmt::print("listening on {}, on the way to {}\n", (*road)->address(), flags.to);
  std::fflush(stdout);
  stop.wait();
  net::RoughRoadStats stats;
  runtime.run_blocking([&] {
    stats = (*road)->stats();
    road->reset();
  });
  fmt::print("{} connections, {} bytes, {} pieces sent again\n", stats.connections, stats.bytes,
             stats.resent);
  return kSuccess;
}

void add_proxy(CLI::App& sim, Run& run) {
  const auto flags = std::make_shared<ProxyFlags>();
  CLI::App* verb = sim.add_subcommand("proxy", "Be a bad network before a real process");
  verb->add_option("--to", flags->to, "Where connections go on to")
      ->required()
      ->option_text("HOST:PORT");
  add_option_with_default(*verb, "--listen", flags->listen, "Where it is dialled instead",
                          "HOST:PORT");
  add_network_flags(*verb, flags->network, "connection", "pieces");
  add_option_with_default(*verb, "--cut-after", flags->cut_after,
                          "Then nothing passes, and nobody is told; 0: never", "S")
      ->check(CLI::Range(0.0, 86'400.0));
  add_option_with_default(*verb, "--cut-for", flags->cut_for, "Until it passes again; 0: for good",
                          "S")
      ->check(CLI::Range(0.0, 86'400.0));
  add_option_with_default(*verb, "--seed", flags->seed, "Of what is drawn", "N");
  verb->footer(R"(
Prints one line when it is ready: listening on HOST:PORT, on the way to HOST:PORT
SIGTERM or SIGINT ends it.

Example: peers across the sea, on one machine
  farmesh node --model models/demo --layers 0:3 --listen 127.0.0.1:31330
  farmesh sim proxy --to 127.0.0.1:31330 --listen 127.0.0.1:31340 --latency 40 --jitter 5)");
  verb->callback([flags, &run] { run = [flags] { return proxy(*flags); }; });
}

}  // namespace

void add_sim(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<SimFlags>();
  CLI::App* verb = program.add_subcommand("sim", "Try a swarm and a load in virtual time");
  verb->add_option("--nodes", flags->nodes,
                   "COUNT nodes with LAYERS of the 12 layers each, MS for a layer; repeatable")
      ->allow_extra_args(false)
      ->option_text("COUNT:LAYERS:MS");
  add_option_with_default(*verb, "--sessions", flags->sessions, "At once; ended ones are followed",
                          "N")
      ->check(CLI::Range(1, 10'000));
  add_option_with_default(*verb, "--prompt-tokens", flags->prompt_tokens, "Of each session", "N")
      ->check(CLI::Range(1, 4'000));
  add_option_with_default(*verb, "--tokens", flags->tokens, "Generated by each session", "N")
      ->check(CLI::Range(1, 4'000));
  add_option_with_default(*verb, "--seconds", flags->seconds, "Virtual time to run", "S")
      ->check(CLI::Range(0.1, 86'400.0));
  add_option_with_default(*verb, "--kill-every", flags->kill_every,
                          "A peer dies so often, and is back after 6 s; 0: never", "S")
      ->check(CLI::Range(0.0, 86'400.0));
  add_network_flags(*verb, flags->network, "link", "frames");
  add_option_with_default(*verb, "--drift", flags->drift, "Of the nodes' clocks, fast and slow",
                          "N")
      ->check(CLI::Range(0.0, 0.5));
  verb->add_flag("--standby", flags->standby, "Keep a spare warm behind every stage");
  add_option_with_default(*verb, "--seed", flags->seed, "Equal seeds give equal runs", "N");
  verb->add_flag("--json", flags->json, "The result as one JSON object");
  verb->footer(R"(
Examples:
  farmesh sim --sessions 200 --kill-every 2 --seconds 300
  farmesh sim --nodes 4:12:0.2 --nodes 24:3:1.5 --latency 40 --loss 0.01

Real peers and drivers run over a simulated network with a stand-in model of 12 layers; every
token is compared with what one machine alone would tell. Exits with 1 if one differs.)");
  add_proxy(*verb, run);
  verb->callback([flags, verb, &run] {
    if (verb->get_subcommands().empty()) run = [flags] { return simulate(*flags); };
  });
}

}  // namespace farmesh::cli
