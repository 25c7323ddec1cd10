#include "weights/download.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/thread.hpp"

namespace farmesh::weights {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{100};  // between two reports of progress
constexpr int kProofs = 2;  // that a piece may fail: a second time it was no accident

/// Whether asking the same hub again can help.
bool may_pass(Errc code) {
  switch (code) {
    case Errc::connection_refused:
    case Errc::connection_lost:
    case Errc::timeout:
    case Errc::tls_failed:
    case Errc::busy: return true;
    default: return false;
  }
}

std::uint64_t bytes_in(const PieceStore& store, const std::vector<PieceRun>& runs) {
  std::uint64_t bytes = 0;
  for (const PieceRun& run : runs) {
    for (std::size_t piece = run.first; piece < run.end; ++piece) {
      bytes += store.bytes_of(run.file, piece);
    }
  }
  return bytes;
}

/// Runs of at most about `bytes` each.
std::deque<PieceRun> cut(const std::vector<PieceRun>& runs, std::uint64_t piece_bytes,
                         std::uint64_t bytes) {
  const std::size_t most = std::max<std::size_t>(1, bytes / piece_bytes);
  std::deque<PieceRun> parts;
  for (const PieceRun& run : runs) {
    for (std::size_t first = run.first; first < run.end; first += most) {
      parts.push_back({run.file, first, std::min(first + most, run.end)});
    }
  }
  return parts;
}

class Download {
 public:
  Download(Hub& hub, PieceStore& store, const model::Manifest* manifest,
           const DownloadOptions& options)
      : hub_(hub), store_(store), manifest_(manifest), options_(options) {}

  Result<void> run(const std::vector<PieceRun>& runs, DownloadProgress progress) {
    queue_ = cut(runs, store_.piece_bytes(), options_.request_bytes);
    progress_ = progress;
    const auto wanted = static_cast<std::size_t>(std::max(1, options_.connections));
    working_ = std::min(wanted, queue_.size());
    std::vector<std::thread> threads;
    for (std::size_t i = working_; i > 0; --i) {
      threads.push_back(start_thread("fm-fetch", [this] { work(); }));
    }
    Result<void> saved = watch();
    for (std::thread& thread : threads) thread.join();
    const Result<void> last = store_.save();
    if (outcome_ && !saved) outcome_ = saved;
    if (outcome_ && !last) outcome_ = last;
    return outcome_;
  }

 private:
  /// Tells and saves while others work.
  Result<void> watch() {
    auto saved = Clock::now();
    std::unique_lock lock(mutex_);
    for (;;) {
      const bool over = changed_.wait_for(lock, kLook, [this] { return working_ == 0; });
      const DownloadProgress now = progress_;
      lock.unlock();
      if (options_.on_progress) options_.on_progress(now);
      if (over) return {};
      if (Clock::now() - saved >= options_.save_every) {
        if (const Result<void> done = store_.save(); !done) {
          fail(done.error());
          return done;
        }
        saved = Clock::now();
      }
      lock.lock();
    }
  }

  void work() {
    for (;;) {
      PieceRun run;
      {
        const std::lock_guard lock(mutex_);
        if (queue_.empty() || !outcome_) {
          --working_;
          break;
        }
        run = std::move(queue_.front());
        queue_.pop_front();
      }
      if (const Result<void> fetched = fetch(std::move(run)); !fetched) fail(fetched.error());
    }
    changed_.notify_all();
  }

  void fail(const Error& error) {
    {
      const std::lock_guard lock(mutex_);
      if (outcome_) outcome_ = error;
    }
    changed_.notify_all();
  }

  Result<void> fetch(PieceRun run) {
    int tries = 0;
    int disproved = 0;
    std::chrono::milliseconds pause = options_.pause;
    for (;;) {
      const std::size_t before = run.first;
      const Result<void> asked = ask(run);
      if (asked) return {};
      const Errc code = asked.error().code;
      if (run.first > before) {
        tries = 0;
        pause = options_.pause;
      }
      if (code == Errc::weights_damaged) {
        if (++disproved == kProofs) return asked;
      } else if (!may_pass(code) || ++tries == options_.tries) {
        return asked;
      }
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, pause, [this] { return !outcome_; })) return asked;
      pause *= 2;
    }
  }

  /// One request. `run.first` passes over what came.
  Result<void> ask(PieceRun& run) {
    const std::uint64_t size = store_.piece_bytes();
    const std::uint64_t end = (run.end - 1) * size + store_.bytes_of(run.file, run.end - 1);
    std::string piece;
    const auto on_version = [&](const HubVersion& version) {
      // Where hashes prove what came, the hub's own name for it says nothing.
      return store_.begin(run.file, version.length, manifest_ == nullptr ? version.etag : "");
    };
    const auto on_bytes = [&](std::string_view bytes) -> Result<void> {
      while (!bytes.empty()) {
        const std::size_t whole = store_.bytes_of(run.file, run.first);
        const std::string_view part = bytes.substr(0, whole - piece.size());
        piece += part;
        bytes.remove_prefix(part.size());
        if (piece.size() < whole) return {};
        if (const Result<void> taken = take(run, piece); !taken) return taken;
        piece.clear();
      }
      return {};
    };
    return hub_.range(run.file, run.first * size, end, on_version, on_bytes);
  }

  Result<void> take(PieceRun& run, const std::string& bytes) {
    if (manifest_ != nullptr) {
      const model::ManifestFile* const file = manifest_->find(run.file);
      if (file == nullptr || !manifest_->proves(*file, run.first, as_view(bytes))) {
        return {Errc::weights_damaged, fmt::format("piece {} of {} from {} is not the model's",
                                                   run.first, run.file, hub_.host())};
      }
    }
    if (const auto written = store_.write(run.file, run.first, as_view(bytes)); !written) {
      return written;
    }
    ++run.first;
    const std::lock_guard lock(mutex_);
    progress_.done_bytes += bytes.size();
    return {};
  }

  Hub& hub_;
  PieceStore& store_;
  const model::Manifest* const manifest_;
  const DownloadOptions& options_;

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<PieceRun> queue_;
  DownloadProgress progress_;
  std::size_t working_ = 0;
  Result<void> outcome_;
};

}  // namespace

std::vector<PieceRun> missing(const PieceStore& store, std::vector<PieceRun> wanted) {
  std::map<std::string, std::set<std::size_t>> pieces;
  for (const PieceRun& run : wanted) {
    for (std::size_t piece = run.first; piece < run.end; ++piece) {
      if (!store.has(run.file, piece)) pieces[run.file].insert(piece);
    }
  }
  std::vector<PieceRun> runs;
  for (const auto& [file, indices] : pieces) {
    for (const std::size_t piece : indices) {
      const bool goes_on = !runs.empty() && runs.back().file == file && runs.back().end == piece;
      if (goes_on) {
        ++runs.back().end;
      } else {
        runs.push_back({file, piece, piece + 1});
      }
    }
  }
  return runs;
}

Result<DownloadProgress> plan(const PieceStore& store, const std::vector<PieceRun>& wanted,
                              const DownloadOptions& options) {
  const std::uint64_t lacking = bytes_in(store, missing(store, wanted));
  const std::uint64_t free = store.free_bytes();
  if (free < lacking || free - lacking < options.spare_bytes) {
    return {Errc::disk_full, fmt::format("{:.2f} GB are to be downloaded, and {:.2f} GB are free",
                                         double(lacking) / 1e9, double(free) / 1e9)};
  }
  // Wanted runs may overlap; what is there of them counts once.
  std::map<std::string, std::set<std::size_t>> all;
  DownloadProgress progress;
  for (const PieceRun& run : wanted) {
    for (std::size_t piece = run.first; piece < run.end; ++piece) {
      if (all[run.file].insert(piece).second) {
        progress.all_bytes += store.bytes_of(run.file, piece);
      }
    }
  }
  progress.done_bytes = progress.all_bytes - lacking;
  return progress;
}

Result<void> download(Hub& hub, PieceStore& store, const model::Manifest* manifest,
                      const std::vector<PieceRun>& wanted, const DownloadOptions& options) {
  const std::vector<PieceRun> runs = missing(store, wanted);
  if (runs.empty()) return {};
  const Result<DownloadProgress> progress = plan(store, wanted, options);
  if (!progress) return progress.error();
  return Download(hub, store, manifest, options).run(runs, *progress);
}

}  // namespace farmesh::weights
