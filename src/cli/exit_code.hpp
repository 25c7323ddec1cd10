// What the program's exit status says; docs/cli.md has the table.
#pragma once

#include <farmesh/errors.hpp>
#include <farmesh/result.hpp>

namespace farmesh::cli {

enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,        // none of the below
  kUsage = 2,          // flags or values that cannot be used
  kModel = 3,          // the model's files, or this build, cannot do it
  kMesh = 4,           // no peer could be reached, or none that serves what is needed
  kBusy = 5,           // peers have no room now
  kInterrupted = 130,  // SIGINT, as shells count it
};

ExitCode exit_code_of(Errc code) noexcept;

/// Tells the error on standard error, as "farmesh: no_route: …", and returns its exit code.
int report(const Error& error);

}  // namespace farmesh::cli
