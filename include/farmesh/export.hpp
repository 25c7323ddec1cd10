// FARMESH_API marks what libfarmesh.so lets applications call; everything else stays hidden.
#pragma once

#define FARMESH_API __attribute__((visibility("default")))
