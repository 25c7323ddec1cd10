#include "cli/terminal.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/thread.hpp"

namespace farmesh::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPatience{250};  // shorter waits are not worth a line
constexpr milliseconds kRedraw{100};
constexpr const char* kEraseLine = "\r\033[K";

}  // namespace

bool is_terminal(int descriptor) noexcept { return ::isatty(descriptor) == 1; }

Palette::Palette(int descriptor) {
  if (!is_terminal(descriptor) || std::getenv("NO_COLOR") != nullptr) return;
  bold = "\033[1m";
  dim = "\033[2m";
  red = "\033[31m";
  green = "\033[32m";
  cyan = "\033[36m";
  reset = "\033[0m";
}

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array kUnits{"bytes", "KB", "MB", "GB", "TB"};
  double amount = double(bytes);
  std::size_t unit = 0;
  for (; amount >= 1000 && unit + 1 < kUnits.size(); ++unit) amount /= 1000;
  return fmt::format("{:.{}f} {}", amount, unit == 0 || amount >= 100 ? 0 : 1, kUnits[unit]);
}

std::string time_left(double bytes_per_second, std::uint64_t bytes) {
  constexpr double kLongest = 100 * 3600;
  if (bytes_per_second <= 0 || double(bytes) / bytes_per_second > kLongest) return "";
  const auto seconds = static_cast<std::uint64_t>(std::ceil(double(bytes) / bytes_per_second));
  if (seconds >= 3600) return fmt::format("{}:{:02} h", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

ProgressBar::ProgressBar(std::string label, Pace pace)
    : label_(std::move(label)),
      shown_(is_terminal(STDERR_FILENO)),
      pace_(pace),
      began_(steady_clock::now()),
      drawn_(began_) {}

ProgressBar::~ProgressBar() {
  if (dirty_) std::fputs(kEraseLine, stderr);
}

/// ", 35 MB/s, 0:31 left": of what came since the bar began.
std::string ProgressBar::pace_text(std::uint64_t done, std::uint64_t all) {
  const double seconds = std::chrono::duration<double>(steady_clock::now() - began_).count();
  const double rate = double(done - std::min(done, first_bytes_)) / seconds;
  std::string text = ", " + human_bytes(static_cast<std::uint64_t>(rate)) + "/s";
  const std::string left = time_left(rate, all - std::min(done, all));
  return left.empty() ? text : text + ", " + left + " left";
}

void ProgressBar::update(std::uint64_t done, std::uint64_t all) {
  if (!std::exchange(started_, true)) first_bytes_ = done;
  const auto now = steady_clock::now();
  if (!shown_ || all == 0 || now - began_ < kPatience || now - drawn_ < kRedraw) return;
  drawn_ = now;
  dirty_ = true;
  constexpr std::size_t kWidth = 30;
  const double share = std::min(1.0, double(done) / double(all));
  const auto filled = std::size_t(share * kWidth);
  fmt::print(stderr, "{}{}  [{}{}] {:3.0f}%  {} of {}{}", kEraseLine, label_,
             std::string(filled, '#'), std::string(kWidth - filled, '.'), 100 * share,
             human_bytes(done), human_bytes(all), pace_ == Pace::shown ? pace_text(done, all) : "");
  std::fflush(stderr);
}

Waiting::Waiting(std::string label) : label_(std::move(label)) {
  if (is_terminal(STDERR_FILENO)) thread_ = start_thread("fm-waiting", [this] { draw(); });
}

void Waiting::draw() {
  const auto began = steady_clock::now();
  bool drawn = false;
  std::unique_lock lock(mutex_);
  auto next = began + kPatience;
  while (!changed_.wait_until(lock, next, [this] { return stopped_; })) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(next - began);
    fmt::print(stderr, "{}{} … {} s", kEraseLine, label_, seconds.count());
    std::fflush(stderr);
    drawn = true;
    next += std::chrono::seconds(1);
  }
  if (drawn) std::fputs(kEraseLine, stderr);
}

void Waiting::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace farmesh::cli
