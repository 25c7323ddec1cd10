// farmesh bench: what is measured, as rows of one table.
//
// Every figure stands beside another of the same run, taken in turns, and what counts is their
// ratio: a shared machine makes single figures swing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <farmesh/kv_format.hpp>
#include <farmesh/model.hpp>
#include <farmesh/result.hpp>
#include <farmesh/types.hpp>

namespace farmesh::cli {

/// A program that runs the same shapes (rival.hpp).
struct Rival {
  std::string name;
  std::vector<std::string> command;  // its path and first arguments
};

struct BenchOptions {
  std::vector<std::string> shapes{"1.1b", "160m"};
  int threads = 0;  // resolved before a benchmark runs
  int rounds = 5;
  std::string folder;                 // where synthetic models are kept
  std::vector<Precision> precisions;  // these and those below: empty for a benchmark's own
  std::vector<KvFormat> kvs;
  std::vector<std::uint32_t> sessions;
  std::vector<std::uint32_t> prompts;   // tokens
  std::vector<std::uint32_t> contexts;  // tokens in the cache before
  std::vector<Rival> rivals;
  std::string rival_models;  // folder of their weights; empty: `folder`
};

struct RivalFigure {
  std::string name;
  double value = 0;  // in the row's unit
};

struct BenchRow {
  std::string bench;  // "chain"
  std::string shape;  // "1.1b"; empty where none is used
  std::string what;   // "three peers"
  double value = 0;
  std::string beside;  // "one process"; empty where nothing is compared
  double other = 0;    // in the same unit
  std::string unit;    // "tokens/s"
  std::string bound;   // "ratio at least 0.9"; empty where the row only informs
  bool held = true;    // whether `value` keeps the bound
  std::vector<RivalFigure> rivals;

  double ratio() const { return other == 0 ? 0 : value / other; }
};

using Rows = std::vector<BenchRow>;

Result<Rows> bench_hop(const BenchOptions& options);
Result<Rows> bench_chain(const BenchOptions& options);
Result<Rows> bench_batch(const BenchOptions& options);
Result<Rows> bench_load(const BenchOptions& options);
Result<Rows> bench_wan(const BenchOptions& options);
Result<Rows> bench_gateway(const BenchOptions& options);
/// Of the ledger, on SQLite files in `folder`: a part of the gateway's.
Result<Rows> ledger_rows(const std::string& folder);
Result<Rows> bench_decode(const BenchOptions& options);
Result<Rows> bench_prefill(const BenchOptions& options);
Result<Rows> bench_kernels(const BenchOptions& options);

double median(std::vector<double> values);
/// What was asked for, or else a benchmark's own.
template <class T>
std::vector<T> asked_or(const std::vector<T>& asked, std::vector<T> usual) {
  return asked.empty() ? std::move(usual) : asked;
}

/// A folder of a benchmark's own, removed with it.
class ScratchFolder {
 public:
  /// Below `parent`, which is made if missing. Fails with io_error.
  static Result<ScratchFolder> make(const std::string& parent);
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();

  const std::string& path() const noexcept { return path_; }

 private:
  explicit ScratchFolder(std::string path) noexcept : path_(std::move(path)) {}

  std::string path_;
};

/// The folder of a synthetic model, written there by its first use. Fails with io_error.
Result<std::string> synthetic_model(const BenchOptions& options, const std::string& shape);

/// Tokens a second of one greedy turn after the first token, with nothing that could end it
/// early.
Result<double> decode_speed(const DistributedModel& model, std::uint32_t tokens);

}  // namespace farmesh::cli
