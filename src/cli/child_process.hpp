// A child process whose output is read and whose life ends with its parent's.
//
// Used by the demo, the benchmarks and the tests, to run peers as processes of their own.
// One owner; not thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include <farmesh/result.hpp>

namespace farmesh::cli {

/// This program's own file, to start another of it.
std::string own_program();

class ChildProcess {
 public:
  /// `argv[0]` is the program's path; `environment` has further "NAME=value"s. Standard input is
  /// `input`, at most 64 KiB of it, standard output is read below, standard error is kept.
  /// Fails with io_error.
  static Result<ChildProcess> start(const std::vector<std::string>& argv,
                                    const std::vector<std::string>& environment = {},
                                    const std::string& input = {});

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // kills it, and waits for its end

  pid_t pid() const noexcept { return pid_; }

  /// The next line of its output, without the line's end; nothing when it ended or `patience`
  /// passed.
  std::optional<std::string> read_line(std::chrono::milliseconds patience);

  /// Everything it still writes until it ends. Then its exit status: 128 + N after signal N.
  std::string read_all();
  int wait();
  /// Its exit status, if it has ended.
  std::optional<int> ended();

  void signal(int number) noexcept;

  /// What it wrote to standard error so far.
  std::string errors() const;

  /// Largest resident memory so far, in bytes; 0 once it was waited for.
  std::uint64_t peak_resident_bytes() const;

 private:
  ChildProcess() = default;
  void reap(int options);

  pid_t pid_ = -1;
  int output_ = -1;
  int errors_ = -1;
  std::string buffer_;
  std::optional<int> status_;
};

}  // namespace farmesh::cli
