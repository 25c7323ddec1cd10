#include "cli/layer_flags.hpp"

#include <charconv>
#include <chrono>

#include <CLI/Validators.hpp>

#include "cli/flags.hpp"

namespace farmesh::cli {
namespace {

constexpr const char* kAuto = "auto";

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1'000));
}

Result<std::uint32_t> block_count(const std::string& text) {
  if (text == kAuto) return 0u;
  std::uint32_t count = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, count);
  if (failure != std::errc() || stopped != end || count == 0) {
    return {Errc::invalid_argument, "--num-blocks wants a number or auto, not '" + text + "'"};
  }
  return count;
}

}  // namespace

void LayerFlags::add_to(CLI::App& verb, Settings& settings) {
  verb.add_option("--layers", layers,
                  "A:B is A to B-1; default with --bootstrap: auto, those that are served worst")
      ->option_text("A:B");
  settings.from_environment(
      add_option_with_default(verb, "--num-blocks", num_blocks,
                              "Of layers that are not named: at most N; auto: what fits", "N"),
      {"FAR_NODE_NUM_BLOCKS"});
  verb.add_option("--memory", memory_gb, "Most memory to take for them; default: what is free")
      ->check(CLI::Range(0.001, 1e6))
      ->option_text("GB");
  add_option_with_default(verb, "--first-look", first_look_seconds,
                          "Longest wait for what others serve, before it chooses", "SECONDS")
      ->check(CLI::Range(0.1, 3'600.0));
  add_option_with_default(verb, "--rebalance", rebalance_seconds,
                          "How often it looks whether it is needed elsewhere; 0: never", "SECONDS")
      ->check(CLI::Range(0.0, 1e6));
  add_option_with_default(verb, "--hole-patience", hole_patience_seconds,
                          "How long layers are nobody's before it goes there", "SECONDS")
      ->check(CLI::Range(0.0, 1e6));
}

Result<void> LayerFlags::apply_to(PeerOptions& options, int drain_seconds) const {
  const bool chooses =
      layers == kAuto || (layers.empty() && !options.head && options.discovery.enabled());
  if (!layers.empty() && layers != kAuto) {
    const Result<Span> named = parse_layers(layers);
    if (!named) return named.error();
    options.layers = *named;
  }
  if (!chooses) return {};
  LayerChoice choice;
  const Result<std::uint32_t> most = block_count(num_blocks);
  if (!most) return most.error();
  choice.max_layers = *most;
  choice.memory_bytes = static_cast<std::uint64_t>(memory_gb * 1e9);
  choice.first_look = milliseconds(first_look_seconds);
  choice.look_every = milliseconds(rebalance_seconds);
  choice.hole_patience = milliseconds(hole_patience_seconds);
  choice.drain = std::chrono::seconds(drain_seconds);
  options.choose_layers = std::move(choice);
  return {};
}

}  // namespace farmesh::cli
