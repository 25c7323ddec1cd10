// What guesses the tokens that come next, for a chain to verify in one trip.
//
// Implemented by draft_model.hpp, with a small model, and by guesses.hpp, which asks whoever has
// been right; asked by generator.hpp. A guess is only ever compared with the token that the model
// itself gives, so a guesser may be wrong, late or gone without a trace in the text.
// Threading: the network thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace farmesh::driver {

class Guesser {
 public:
  using Done = std::function<void(std::vector<TokenId>)>;

  virtual ~Guesser() = default;

  /// At most `most` tokens that may follow `ids`, which are the whole session and are not used
  /// after the call has returned. `done` is run once, within the call or later, with nothing where
  /// nothing is guessed; never after the guesser is gone. With `most` 0 it may read ahead.
  virtual void guess(std::span<const TokenId> ids, std::uint32_t most, Done done) = 0;
};

}  // namespace farmesh::driver
