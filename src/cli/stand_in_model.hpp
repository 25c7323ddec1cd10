// A model that computes nothing, behind the face that the gateway serves: for benchmarks of what
// stands around a model.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "gateway/model.hpp"

namespace farmesh::cli {

class StandInModel final : public gateway::Model {
 public:
  static constexpr const char* kWord = " word";  // every token

  /// Tokens come `pace` apart; zero: each when allow() was called for it.
  explicit StandInModel(std::chrono::microseconds pace) : pace_(pace) {}

  std::unique_ptr<gateway::TurnTokens> start(const gateway::TurnInput& input) override;
  gateway::ModelState state() const override;
  std::string node_id(const std::string& peer) const override { return peer; }
  std::string token_bytes(TokenId) const override { return kWord; }

  /// One more token of the one turn that runs.
  void allow();
  /// The longest time between two tokens of one turn, as they were made.
  std::chrono::microseconds longest_gap() const;

 private:
  friend class StandInTokens;

  const std::chrono::microseconds pace_;
  mutable std::mutex mutex_;  // guards the below
  std::condition_variable allowed_;
  std::uint64_t allowance_ = 0;
  std::chrono::microseconds longest_gap_{0};
};

}  // namespace farmesh::cli
