// Another engine beside ours, in the same run: a program that is given by its path.
//
// What is asked of it: it takes "-m FILE -t N -c N -npp PROMPT -ntg TOKENS -npl SESSIONS" and
// prints a table with a row "| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | …", as
// the batched benchmarks of the llama.cpp family do. Its weights are GGUF files, one for each shape
// and precision, which its own tools make.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "cli/bench.hpp"

namespace farmesh::cli {

/// Reads "NAME=PROGRAM" or "NAME=PROGRAM ARGUMENT…", cut at spaces. Fails with invalid_argument.
Result<Rival> parse_rival(std::string_view text);

/// Equal sessions: a prompt each, then tokens of all of them in step.
struct RivalLoad {
  std::uint32_t sessions = 1;
  std::uint32_t prompt = 1;
  std::uint32_t generated = 1;
};

/// Tokens a second of all sessions together.
struct RivalSpeed {
  double prefill = 0;    // of the prompts
  double decode = 0;     // of the tokens after them
  double generated = 0;  // tokens over the time of both
};

/// The row of `load` in what a rival printed. Fails with bad_payload where there is none, or one
/// whose numbers are no speeds.
Result<RivalSpeed> read_rival_table(std::string_view output, const RivalLoad& load);

/// The rivals beside one row of ours, run in turns with it.
class RivalColumns {
 public:
  /// Rivals of whose weights there is no file are told of once, and left out.
  RivalColumns(const BenchOptions& options, const std::string& shape, Precision precision);

  /// One run of each, of which `figure` counts. Fails with what the rival said.
  Result<void> take(const RivalLoad& load, double RivalSpeed::*figure);
  /// Sets the medians into `row`, which is to be at least `floor` times the fastest of them.
  void append_to(BenchRow& row, double floor) const;

 private:
  struct Column {
    Rival rival;
    std::vector<double> figures;
  };

  int threads_;
  std::string weights_;
  std::vector<Column> columns_;
};

}  // namespace farmesh::cli
