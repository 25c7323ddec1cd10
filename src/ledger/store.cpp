#include "ledger/store.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/digest.hpp"
#include "ledger/migrations.hpp"

namespace farmesh::ledger {
namespace {

Result<std::unique_ptr<Database>> open_database(const LedgerOptions& options) {
  const std::string_view url = options.url;
  if (url.empty()) return Error{Errc::config_invalid, "the ledger's URL is empty"};
  if (url.starts_with("postgres://") || url.starts_with("postgresql://")) {
    return open_postgres({options.url, options.lock_timeout});
  }
  std::string path(url);
  if (url.starts_with("sqlite:")) path.erase(0, 7);
  if (path.find("://") != std::string::npos || path.find('\0') != std::string::npos) {
    return Error{Errc::config_invalid,
                 "the ledger's URL is neither postgresql:// nor a SQLite file"};
  }
  return open_sqlite({path, options.durable, options.lock_timeout});
}

LedgerTime system_now() {
  return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

}  // namespace

Result<std::shared_ptr<Store>> Store::open(LedgerOptions options) {
  if (!options.clock) options.clock = system_now;
  auto database = open_database(options);
  if (!database) return database.error();
  const Result<void> migrated = migrate(**database);
  if (!migrated) return public_error(migrated.error());
  return std::shared_ptr<Store>(new Store(std::move(options), std::move(*database)));
}

void Store::pause_before(int attempt) {
  std::array<std::uint8_t, 1> random{};
  random_bytes(random);
  const int most_ms = std::min(200, 1 << (attempt + 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(1 + random[0] * most_ms / 256));
}

Error Store::public_error(Error error) {
  if (may_try_again(error)) error.code = Errc::ledger_unavailable;
  return error;
}

}  // namespace farmesh::ledger
