// How fast this machine runs a layer of a model, measured once and remembered for a day: a node
// that starts again, or moves to other layers, need not try again.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/types.hpp"

namespace farmesh::node {

/// Names what a layer's time depends on: weights, precision and kernels, threads, processor.
std::string step_time_key(const ModelHash& model, const std::string& numerics_class, int threads,
                          const std::string& processor);

/// In microseconds, what `file` says of `key`; 0 if it is not there, older than a day, or makes no
/// sense.
std::uint32_t remembered_step_time(const std::filesystem::path& file, const std::string& key,
                                   std::chrono::system_clock::time_point now);
/// As well as it can: it is measured again otherwise. The file is replaced as a whole, and keeps
/// the 64 latest.
void remember_step_time(const std::filesystem::path& file, const std::string& key, std::uint32_t us,
                        std::chrono::system_clock::time_point now);

}  // namespace farmesh::node
