#include "node/step_times.hpp"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/digest.hpp"
#include "model/model_hash.hpp"

namespace farmesh::node {
namespace {

using SystemTime = std::chrono::system_clock::time_point;

constexpr std::chrono::hours kRemembered{24};
constexpr std::size_t kMaxEntries = 64;

struct Entry {
  std::string key;
  std::uint32_t us = 0;
  std::int64_t seconds = 0;  // Unix time
};

std::int64_t unix_seconds(SystemTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

bool is_fresh(const Entry& entry, SystemTime now) {
  const std::int64_t age = unix_seconds(now) - entry.seconds;
  return age >= -60 && age < std::chrono::seconds(kRemembered).count();
}

/// Up to the first line that is none; of a longer file the first lines.
std::vector<Entry> read(const std::filesystem::path& file) {
  std::vector<Entry> entries;
  std::ifstream in(file);
  Entry entry;
  while (entries.size() < kMaxEntries && in >> entry.key >> entry.us >> entry.seconds) {
    if (entry.key.size() != 32) break;
    entries.push_back(entry);
  }
  return entries;
}

}  // namespace

std::string step_time_key(const ModelHash& model, const std::string& numerics_class, int threads,
                          const std::string& processor) {
  const std::string text =
      fmt::format("{}\n{}\n{}\n{}", model::to_hex(model), numerics_class, threads, processor);
  return farmesh::to_hex(sha256(as_view(text))).substr(0, 32);
}

std::uint32_t remembered_step_time(const std::filesystem::path& file, const std::string& key,
                                   SystemTime now) {
  for (const Entry& entry : read(file)) {
    if (entry.key == key && is_fresh(entry, now)) return entry.us;
  }
  return 0;
}

void remember_step_time(const std::filesystem::path& file, const std::string& key, std::uint32_t us,
                        SystemTime now) {
  if (file.empty()) return;
  std::vector<Entry> entries = read(file);
  std::erase_if(entries,
                [&](const Entry& entry) { return entry.key == key || !is_fresh(entry, now); });
  entries.insert(entries.begin(), {key, us, unix_seconds(now)});
  if (entries.size() > kMaxEntries) entries.resize(kMaxEntries);

  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  std::filesystem::path written = file;
  written += fmt::format(".{}", ::getpid());  // nodes of one machine share the folder
  {
    std::ofstream out(written, std::ios::trunc);
    for (const Entry& entry : entries) {
      out << entry.key << ' ' << entry.us << ' ' << entry.seconds << '\n';
    }
  }
  std::filesystem::rename(written, file, ignored);
}

}  // namespace farmesh::node
