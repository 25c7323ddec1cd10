// Which layers a node serves: named by --layers, else chosen by what the mesh lacks and what fits.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <CLI/App.hpp>

#include <farmesh/peer.hpp>
#include <farmesh/result.hpp>

#include "cli/settings.hpp"

namespace farmesh::cli {

/// --layers, --num-blocks, --memory, --first-look, --rebalance, --hole-patience.
struct LayerFlags {
  std::string layers;
  std::string num_blocks = "auto";
  double memory_gb = 0;
  double first_look_seconds = 5;
  double rebalance_seconds = 120;
  double hole_patience_seconds = 10;

  void add_to(CLI::App& verb, Settings& settings);

  /// Sets `layers` or `choose_layers`. A head without layers named has none, unless they are
  /// "auto". Fails with invalid_argument.
  Result<void> apply_to(PeerOptions& options, int drain_seconds) const;
};

}  // namespace farmesh::cli
