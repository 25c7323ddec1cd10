// Where a session's guesses come from: what was said before, which costs nothing, and a small
// model where there is one. Both are asked for no more than they have been worth.
// Used by generator.hpp. Threading: the network thread; one object a session.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/types.hpp"
#include "driver/guesser.hpp"
#include "driver/prompt_lookup.hpp"

namespace farmesh::driver {

/// How often the guesses of one source come true, lately, and how far ahead it is to guess.
class Acceptance {
 public:
  /// The model agreed with the first `accepted` of `guessed` tokens.
  void judged(std::uint32_t guessed, std::uint32_t accepted) noexcept;

  /// Share of guessed tokens that came true, each counted while all before it did.
  double rate() const noexcept { return rate_; }

  /// So many that the last of them still comes true in a third of all cases. 0: it is hardly ever
  /// right, and is asked only now and then.
  std::uint32_t length() noexcept;

 private:
  double rate_ = 0.7;
  std::uint32_t rest_ = 0;  // more steps without a guess
};

class Guesses {
 public:
  /// `model` may be null.
  explicit Guesses(std::shared_ptr<Guesser> model) : model_(std::move(model)) {}

  /// A turn begins behind `ids`: the model may read them while the chain does.
  void read(std::span<const TokenId> ids);

  /// As Guesser has it.
  void guess(std::span<const TokenId> ids, std::uint32_t most, Guesser::Done done);

  /// Of the last guess.
  void judged(std::uint32_t guessed, std::uint32_t accepted) noexcept;

 private:
  PromptLookup lookup_;
  Acceptance of_lookup_;
  std::shared_ptr<Guesser> model_;
  Acceptance of_model_;
  std::shared_ptr<bool> by_model_ = std::make_shared<bool>(false);  // the last guess is the model's
};

}  // namespace farmesh::driver
