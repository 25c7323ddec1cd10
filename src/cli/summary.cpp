#include "cli/summary.hpp"

#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/terminal.hpp"

namespace farmesh::cli {

void print_summary(const Usage& usage, const SamplingOptions& sampling) {
  const Palette palette(STDERR_FILENO);
  std::string line = fmt::format("{} tokens after {} of prompt, first after {:.0f} ms",
                                 usage.tokens, usage.prompt_tokens, usage.ttft_ms);
  if (usage.tokens_per_second > 0) {
    line += fmt::format(", then {:.1f} a second", usage.tokens_per_second);
  }
  if (sampling.temperature > 0) line += fmt::format(", seed {}", sampling.seed);
  if (usage.finish == FinishReason::cancelled) line += ", cancelled";
  if (usage.recoveries > 0) {
    line += fmt::format(", {} lost {} replaced", usage.recoveries,
                        usage.recoveries == 1 ? "peer" : "peers");
  }
  if (usage.numerics_changed) line += ", numerics changed";
  fmt::print(stderr, "{}{}{}\n", palette.dim, line, palette.reset);
  for (const HopUsage& hop : usage.hops) {
    fmt::print(stderr, "{}  layers {:>7}  {:<21} {:7.2f} ms a token{}\n", palette.dim,
               fmt::format("{}:{}", hop.span.begin, hop.span.end), hop.peer, hop.ms, palette.reset);
  }
}

}  // namespace farmesh::cli
