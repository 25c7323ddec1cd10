// The ledger that a verb works on.
#pragma once

#include <memory>
#include <string>

#include <CLI/App.hpp>

#include <farmesh/result.hpp>

#include "ledger/store.hpp"

namespace farmesh::cli {

/// Adds --url.
void add_ledger_url(CLI::App& verb, std::string& url);

/// `url`, else POSTGRES_URL, else DATABASE_URL; brought to this version. Fails with config_invalid
/// when there is none, ledger_unavailable, ledger_newer.
Result<std::shared_ptr<ledger::Store>> open_ledger(std::string url);

/// `url`, else ledger.sqlite in the data folder, made if missing. Fails as open_ledger().
Result<std::shared_ptr<ledger::Store>> open_service_ledger(std::string url);

}  // namespace farmesh::cli
