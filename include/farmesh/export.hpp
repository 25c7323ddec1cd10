// FARMESH_API marks what libfarmesh.so lets applications call; everything else stays hidden.
// FARMESH_ABI is the inline namespace of all that is public: names are written without it, but
// every symbol carries it, so that a program links no library whose interface is another.
#pragma once

#define FARMESH_API __attribute__((visibility("default")))
#define FARMESH_ABI v0_1  // of all versions with the same soname
