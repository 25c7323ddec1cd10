// What people see while they wait, and only where a person looks: nothing here writes a byte to
// a pipe or a file.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace farmesh::cli {

bool is_terminal(int descriptor) noexcept;

/// Escape sequences for `descriptor`, empty unless it is a terminal that may be coloured
/// (https://no-color.org).
struct Palette {
  explicit Palette(int descriptor);
  const char* bold = "";
  const char* dim = "";
  const char* red = "";
  const char* green = "";
  const char* cyan = "";
  const char* reset = "";
};

/// "2.2 GB", "512 KB": powers of 1,000, as disks and networks count.
std::string human_bytes(std::uint64_t bytes);

/// "1:05 h", "3:07", the time that is left at a rate; "" where it cannot be told.
std::string time_left(double bytes_per_second, std::uint64_t bytes);

/// "loading  [#####.....]  52%  1.1 GB of 2.2 GB" and, with the pace shown, ", 35 MB/s, 0:31 left";
/// redrawn in place on standard error, erased at the end. Not drawn for what ends within a quarter
/// of a second.
class ProgressBar {
 public:
  enum class Pace : bool { hidden, shown };
  explicit ProgressBar(std::string label, Pace pace = Pace::hidden);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::uint64_t done, std::uint64_t all);

 private:
  std::string pace_text(std::uint64_t done, std::uint64_t all);

  const std::string label_;
  const bool shown_;
  const Pace pace_;
  const std::chrono::steady_clock::time_point began_;
  std::chrono::steady_clock::time_point drawn_;
  bool dirty_ = false;
  bool started_ = false;
  std::uint64_t first_bytes_ = 0;  // that were there at the first update()
};

/// "reading the prompt … 3 s" on standard error until stop(), for work that cannot say how far
/// it is. A thread of its own draws it.
class Waiting {
 public:
  explicit Waiting(std::string label);
  ~Waiting() { stop(); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  void stop();  // idempotent; the line is erased

 private:
  void draw();

  const std::string label_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace farmesh::cli
