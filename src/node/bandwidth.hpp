// How fast this machine sends, measured on one of its peers once and remembered for a day.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "net/connection.hpp"
#include "net/task.hpp"

namespace farmesh::node {

/// Sends pings with zeros behind them, larger ones until they take long enough to tell: 4.6 MB at
/// most. In kbit/s; 0: `peer` did not answer.
net::Task<std::uint32_t> measure_bandwidth(std::shared_ptr<net::Connection> peer,
                                           TimePoint deadline);

/// What `file` says; 0 if it is not there, older than a day, or makes no sense.
std::uint32_t remembered_bandwidth(const std::filesystem::path& file,
                                   std::chrono::system_clock::time_point now);
/// As well as it can: it is measured again otherwise.
void remember_bandwidth(const std::filesystem::path& file, std::uint32_t kbps,
                        std::chrono::system_clock::time_point now);

}  // namespace farmesh::node
