// Packed matrices in files, which a process that starts again maps instead of packing anew: it
// copies nothing, and several share the page cache's memory. Packed bytes are the same on every
// instruction set, so one file serves all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/packed_matrix.hpp"
#include "model/stage_engine.hpp"

namespace farmesh::model {

/// Immutable; one thread at a time, because of the pool.
class PackedStore {
 public:
  explicit PackedStore(PackedFiles where) : where_(std::move(where)) {}

  /// The matrix of this key, content, format and shape, if it was kept and its bytes are those that
  /// were written. Throws std::bad_alloc.
  std::optional<kernels::PackedMatrix> find(kernels::ThreadPool& pool, const std::string& key,
                                            kernels::WeightFormat format, std::int64_t outs,
                                            std::int64_t cols) const;

  /// Keeps the matrix where the store is to be written, whole or not at all. Throws LoadFailure
  /// (io_error).
  void keep(kernels::ThreadPool& pool, const std::string& key,
            const kernels::PackedMatrix& matrix) const;

 private:
  std::filesystem::path file_of(const std::string& key) const;

  PackedFiles where_;
};

}  // namespace farmesh::model
