#include "cli/http_flags.hpp"

#include <CLI/Validators.hpp>

#include "base/log.hpp"
#include "cli/flags.hpp"

namespace farmesh::cli {

void HttpFlags::add_to(CLI::App& verb, Settings& settings) {
  verb.add_option("--tls-cert", cert, "Certificate chain, PEM; default: plain HTTP")
      ->option_text("FILE");
  verb.add_option("--tls-key", key_file, "Its key, PEM")->option_text("FILE");
  verb.add_option("--trusted-proxy", proxies,
                  "Whose X-Forwarded-For counts: an address or A.B.C.D/N; repeatable")
      ->allow_extra_args(false)
      ->option_text("ADDRESS");
  settings.from_environment(
      verb.add_option("--allowed-origins", origins, "Web pages that may call, or *")
          ->delimiter(',')
          ->option_text("ORIGIN,…"),
      {"ALLOWED_ORIGINS"});
  add_option_with_default(verb, "--drain", drain_seconds,
                          "Most seconds that requests may take to end", "SECONDS")
      ->check(CLI::Range(0, 86'400));
}

void HttpFlags::apply_to(http::ServerOptions& options) const {
  options.cert_file = cert;
  options.key_file = key_file;
  options.trusted_proxies = proxies;
  options.cors.allowed_origins = origins;
}

void HttpFlags::warn_if_plain(std::string_view room, const std::string& host) const {
  const bool loopback = host == "127.0.0.1" || host == "::1";
  if (!cert.empty() || loopback || !proxies.empty()) return;
  log(LogLevel::warning, room, "plain HTTP on " + host + ": what is said travels unencrypted");
}

}  // namespace farmesh::cli
