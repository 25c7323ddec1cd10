// farmesh bench wan: a token's way over long links, and recovery, both on virtual time.
#include <fmt/format.h>

#include "cli/bench.hpp"
#include "node/swarm_load.hpp"

namespace farmesh::cli {

Result<Rows> bench_wan(const BenchOptions&) {
  Rows rows;
  const sim::WanReport wan =
      sim::wan_decode(std::chrono::milliseconds(25), std::chrono::milliseconds(5), 60);
  BenchRow ring;
  ring.bench = "wan";
  ring.what = "3 hops, 50 ms round trips";
  ring.value = wan.ring_ms;
  ring.beside = "latencies and compute";
  ring.other = wan.bound_ms;
  ring.unit = "ms/token";
  ring.bound = "ratio at most 1.15";
  ring.held = ring.ratio() <= 1.15;
  rows.push_back(ring);
  BenchRow hub = ring;
  hub.what = "by way of the driver";
  hub.value = wan.hub_ms;
  hub.bound.clear();
  hub.held = true;
  rows.push_back(hub);
  const sim::DraftReport draft =
      sim::wan_draft(std::chrono::milliseconds(25), std::chrono::milliseconds(5), 400);
  BenchRow guessed = hub;
  guessed.what = "guessing, text that repeats itself";
  guessed.value = draft.draft_ms;
  guessed.beside = "without";
  guessed.other = draft.plain_ms;
  guessed.bound = "ratio at most 0.5";
  guessed.held = guessed.value > 0 && guessed.ratio() <= 0.5;
  rows.push_back(guessed);
  for (const double acceptance : {0.5, 0.7, 0.9}) {
    const sim::DraftReport model =
        sim::wan_draft_model(std::chrono::milliseconds(25), std::chrono::milliseconds(5), 400,
                             {.acceptance = acceptance});
    BenchRow row = guessed;
    row.what = fmt::format("a draft model, {:.0f} % right", 100 * acceptance);
    row.value = model.draft_ms;
    row.other = model.plain_ms;
    row.bound = "ratio below 1";
    row.held = row.value > 0 && row.ratio() < 1;
    rows.push_back(row);
  }
  const sim::PipelineKind chain;
  const sim::PipelineReport pipeline = sim::pipeline(chain);
  const std::uint32_t a_pass = chain.sessions / chain.stages;
  BenchRow busy;
  busy.bench = "wan";
  busy.what = fmt::format("{} stages of 5 ms, {} sessions: tokens", chain.stages, chain.sessions);
  busy.value = pipeline.tokens_per_second;
  busy.beside = fmt::format("{} a pass; busy {:.3f}", a_pass, pipeline.busy);
  busy.other = a_pass / std::chrono::duration<double>(chain.pass).count();
  busy.unit = "tokens/s";
  busy.bound = "busy at least 0.95";
  busy.held = pipeline.tokens_per_second > 0 && pipeline.busy >= 0.95;
  rows.push_back(busy);
  for (const std::uint32_t positions : {128u, 1'024u, 4'096u}) {
    const sim::RecoveryReport recovery = sim::recovery_at(positions);
    BenchRow row;
    row.bench = "wan";
    row.what = fmt::format("recovery at {} tokens", positions);
    row.value = recovery.recovery_ms;
    row.beside = "detection, prefill, 300 ms";
    row.other = recovery.detection_ms + recovery.prefill_ms + 300;
    row.unit = "ms";
    row.bound = "ratio at most 1";
    row.held = row.value > 0 && row.value <= row.other;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace farmesh::cli
