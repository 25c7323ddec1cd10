// farmesh ledger reserve: what a user signs for one request, and the taking down of his signature.
#pragma once

#include <CLI/App.hpp>

#include "cli/verbs.hpp"

namespace farmesh::cli {

void add_ledger_reserve(CLI::App& ledger, Run& run);

}  // namespace farmesh::cli
