// Shared libraries that come with this one and are opened when first needed.
//
// Each is loaded with local symbols: libtorch and libsentencepiece both carry a protobuf, of
// different versions, and whichever came into the global scope would answer for the other.
#pragma once

#include <string>

#include <farmesh/result.hpp>

namespace farmesh {

struct Companion {
  const char* file;         // "libfarmesh_torch.so"
  const char* environment;  // variable that names the file to open instead; may be null
  const char* symbol;       // the factory it must export
};

/// Opens the library, which then stays for the life of the process, and returns the address of
/// its factory. Looked for where the environment says, else beside this library or program, in
/// ../lib of the program, and on the loader's path. Fails with engine_unavailable, saying what
/// was tried.
Result<void*> open_companion(const Companion& companion);

}  // namespace farmesh
