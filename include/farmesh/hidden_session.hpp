// A model's layers without its words: hidden states go in, and come out behind the last layer.
//
// For heads and embeddings of one's own, and for looking inside. Opened by
// DistributedModel::open_hidden_session() (model.hpp). Peers serve it as any session: they keep its
// cache, and one that is lost is replaced. Calls block; run() and truncate() come from one thread
// at a time, cancel() from any. After fork() the child may only destroy the object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <farmesh/export.hpp>
#include <farmesh/result.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

namespace farmesh::inline FARMESH_ABI {

/// A matrix in memory that is shared, not copied: nobody may change it while a copy of this lives.
struct Rows {
  DType dtype = DType::bf16;
  std::uint32_t count = 0;
  std::uint32_t columns = 0;
  /// [count, columns], one row after the other, little-endian.
  std::span<const std::byte> bytes;
  /// Keeps `bytes` where they are. Null: whoever takes the rows copies them.
  std::shared_ptr<const void> owner;
};

class FARMESH_API HiddenSession {
 public:
  HiddenSession(HiddenSession&&) noexcept;
  HiddenSession& operator=(HiddenSession&&) noexcept;
  ~HiddenSession();  // frees the cache on every peer, without waiting

  /// Runs `input`, [n, hidden] in the model's hidden_dtype, through every layer, behind the rows
  /// before it, and gives what the last layer gives: [n, hidden], without the final norm, which is
  /// the head's. Success moves position() on by n; a failure leaves it. The session keeps `input`
  /// until its rows are forgotten: what a lost peer held is computed from it again. Fails with
  /// invalid_argument (another shape or dtype, no rows, a NaN or infinity), context_exceeded, busy
  /// (it runs already), cancelled, no_route, no_cache_space, …
  Result<Rows> run(Rows input);

  std::uint32_t position() const noexcept;  // rows run so far

  /// Forgets the rows from `position` on. Fails with invalid_argument beyond position(), busy.
  Result<void> truncate(std::uint32_t position);

  /// Ends a run() under way and frees the cache on every peer at once. The rows before it stay: the
  /// next run() computes them again. From any thread; idempotent.
  void cancel();

  /// In route order, covering every layer once; empty before the first run(). `ms` is the last
  /// step's.
  std::vector<HopUsage> hops() const;

  struct Impl;
  explicit HiddenSession(std::unique_ptr<Impl> impl) noexcept;  // made by DistributedModel

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::inline FARMESH_ABI
