// farmesh model publish: a model's manifest, and its pieces for those who know it.
#pragma once

#include <CLI/App.hpp>

#include "cli/verbs.hpp"

namespace farmesh::cli {

void add_publish(CLI::App& model, Run& run);

}  // namespace farmesh::cli
