// The sequences of one request, side by side: takes prompts, gives tokens in the order they come.
//
// A request for several texts (n, or several prompts) starts a session for each; they share the
// mesh's batches. They are read one token each in turn, so a slow reader slows all of them.
// One reading thread; cancel() may come from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <farmesh/result.hpp>

#include "gateway/model.hpp"

namespace farmesh::gateway {

class Turn {
 public:
  struct Item {
    std::uint32_t index = 0;     // of the sequence
    std::optional<Token> token;  // nothing: the sequence has ended
    FinishReason finish = FinishReason::none;
    std::size_t number = 0;  // of this item in its stream, from 1
    bool told = false;       // the client of a resumed stream has it
  };

  Turn(Model& model, const std::vector<TurnInput>& inputs);

  /// Waits. Nothing once every sequence has ended; the first failure ends the whole turn.
  Result<std::optional<Item>> next();
  void cancel();

  /// Of each sequence, so far.
  std::vector<Usage> usages() const;
  /// The farthest from the mesh of all sequences.
  Origin origin() const;

 private:
  struct Sequence {
    std::unique_ptr<TurnTokens> tokens;
    bool ended = false;
  };
  std::vector<Sequence> sequences_;
  std::size_t turn_ = 0;  // whose token is read next
  std::optional<Error> error_;
};

}  // namespace farmesh::gateway
