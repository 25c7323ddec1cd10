// Runs the rows of one HiddenSession through the layers, and keeps them: a chain holds no inputs,
// and what a lost peer held is computed from them again.
//
// Takes rows from hidden_session.cpp, gives them to driver's chain. Threading: network thread, but
// for positions().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <farmesh/hidden_session.hpp>
#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "client/shared_model.hpp"
#include "driver/chain.hpp"
#include "net/task.hpp"

namespace farmesh::client {

class HiddenRunner : public std::enable_shared_from_this<HiddenRunner> {
 public:
  /// `model` outlives the runner.
  HiddenRunner(const SharedModel& model, const SessionOptions& options);

  /// `rows`, [count, hidden] in the residual's dtype, behind those before.
  static net::Task<Result<Payload>> run(std::shared_ptr<HiddenRunner> self, Payload rows,
                                        std::uint32_t count);
  Result<void> truncate(std::uint32_t position);
  void cancel();
  std::vector<HopUsage> hops() const;

  std::uint32_t positions() const noexcept { return positions_; }  // from any thread
  std::uint32_t context_tokens() const noexcept { return context_tokens_; }

 private:
  /// What one run() was given.
  struct Given {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    Payload rows;
  };

  net::Task<Result<Payload>> compute(std::uint32_t from, std::uint32_t count);
  net::Task<Result<void>> prepare(std::uint32_t end);
  static net::Task<Result<Payload>> given(std::shared_ptr<HiddenRunner> self, std::uint32_t from,
                                          std::uint32_t count);
  void close_chain();

  const SharedModel& model_;
  const std::uint32_t context_tokens_;
  const std::size_t row_bytes_;
  driver::ChainOptions options_;
  std::vector<Given> given_;
  std::atomic<std::uint32_t> positions_ = 0;
  std::optional<driver::Chain> chain_;
  std::uint32_t promised_ = 0;  // positions, by the chain's peers
  bool running_ = false;
  bool cancelled_ = false;
};

}  // namespace farmesh::client
