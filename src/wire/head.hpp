// The head as the driver sees it: token ids to hidden states, hidden states to logits.
//
// Implemented by serve's worker around a local engine and handed to the driver by client/ or
// cli/, so that driver and serve never include each other.
// Threading: calls and callbacks happen on the network thread; computing happens elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"

namespace farmesh::wire {

class Head {
 public:
  virtual ~Head() = default;

  /// Gives [ids.size(), hidden] in the residual dtype. Fails with bad_payload (id outside the
  /// vocabulary), busy, compute_failed.
  virtual void embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) = 0;

  /// Gives logits [rows, vocab] f32 for `hidden` [rows, hidden] in the residual dtype. Requests
  /// that wait at the same time are computed in one pass.
  virtual void logits(Payload hidden, std::uint32_t rows,
                      std::function<void(Result<std::vector<float>>)> done) = 0;
};

}  // namespace farmesh::wire
