// farmesh key create: an API key for the coordinator, straight into the ledger.
#pragma once

#include "cli/verbs.hpp"

namespace farmesh::cli {

void add_key_create(CLI::App& key, Run& run);

}  // namespace farmesh::cli
