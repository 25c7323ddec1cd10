// FARMESH_ASSERT: a bug of ours, never of the input. On in every build: a wrong step in a
// ledger-keeping program must stop, not go on.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace farmesh::detail {
[[noreturn]] inline void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "farmesh: assertion failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}
}  // namespace farmesh::detail

#define FARMESH_ASSERT(condition) \
  ((condition) ? void(0) : ::farmesh::detail::assertion_failed(#condition, __FILE__, __LINE__))
