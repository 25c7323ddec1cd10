// How parsing and rendering a template stop early.
//
// Inside this folder only: a tree walk through some thirty mutually recursive functions reads
// better when each need not hand an error up. chat_template.cpp turns it into a Result.
#pragma once

#include <string>

namespace farmesh::text::jinja {

struct Failure {
  int line = 0;  // of the template, from 1; 0: not known yet
  std::string what;
};

[[noreturn]] inline void fail(std::string what, int line = 0) {
  throw Failure{line, std::move(what)};
}

}  // namespace farmesh::text::jinja
