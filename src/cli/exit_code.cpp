#include "cli/exit_code.hpp"

#include <cstdint>
#include <cstdio>

namespace farmesh::cli {

ExitCode exit_code_of(Errc code) noexcept {
  switch (code) {
    case Errc::ok: return kSuccess;
    case Errc::io_error: return kFailure;
    case Errc::invalid_argument:
    case Errc::config_invalid:
    case Errc::wallet_invalid:
    case Errc::wallet_statement_invalid:
    case Errc::context_exceeded: return kUsage;
    case Errc::cancelled: return kInterrupted;
    case Errc::no_route:
    case Errc::head_unavailable:
    case Errc::session_unknown:
    case Errc::span_unavailable: return kMesh;
    default: break;
  }
  const auto number = static_cast<std::uint16_t>(code);  // ranges as in errors.hpp
  if (number < 200) return kMesh;
  if (number < 300) return kBusy;
  if (number < 400) return kModel;
  return kFailure;
}

int report(const Error& error) {
  std::fprintf(stderr, "farmesh: %s\n", error.to_string().c_str());
  return exit_code_of(error.code);
}

}  // namespace farmesh::cli
