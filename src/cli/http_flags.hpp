// The flags of a verb that serves HTTP, but for where it listens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/App.hpp>

#include "cli/settings.hpp"
#include "http/server.hpp"

namespace farmesh::cli {

struct HttpFlags {
  std::string cert, key_file;
  std::vector<std::string> proxies;
  std::vector<std::string> origins;
  int drain_seconds = 30;

  void add_to(CLI::App& verb, Settings& settings);
  void apply_to(http::ServerOptions& options) const;

  std::string_view scheme() const noexcept { return cert.empty() ? "http" : "https"; }
  /// Logs it where what is said to `host` travels unencrypted over more than this machine.
  void warn_if_plain(std::string_view room, const std::string& host) const;
};

}  // namespace farmesh::cli
