// farmesh ledger claims: what providers hand to the escrow to take their part of a funded tree.
#pragma once

#include <CLI/App.hpp>

#include "cli/verbs.hpp"

namespace farmesh::cli {

void add_ledger_claims(CLI::App& ledger, Run& run);

}  // namespace farmesh::cli
