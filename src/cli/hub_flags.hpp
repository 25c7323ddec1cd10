// Where a model comes from that --model names by an id.
#pragma once

#include <CLI/App.hpp>

#include <farmesh/weights.hpp>

namespace farmesh::cli {

/// --hub, --revision, --manifest, --model-hash, --seed-mbps.
struct HubFlags {
  WeightsOptions options;

  void add_to(CLI::App& verb);

  /// With a bar on the terminal while bytes come.
  WeightsOptions chosen() const;
};

}  // namespace farmesh::cli
