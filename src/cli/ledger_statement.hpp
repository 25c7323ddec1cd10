// farmesh ledger statement: what a wallet earned, and everything it follows from.
#pragma once

#include <CLI/App.hpp>

#include "cli/verbs.hpp"

namespace farmesh::cli {

void add_ledger_statement(CLI::App& ledger, Run& run);

}  // namespace farmesh::cli
