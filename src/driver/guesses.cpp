#include "driver/guesses.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace farmesh::driver {
namespace {

constexpr double kWeight = 1.0 / 16;      // of one token in the rate
constexpr double kWorthIt = 1.0 / 3;      // of the last token guessed, to come true
constexpr double kHardlyEver = 0.15;      // a rate that pays for no row at all
constexpr std::uint32_t kRestSteps = 16;  // until it is tried again
constexpr std::uint32_t kMostAtOnce = 16;

}  // namespace

void Acceptance::judged(std::uint32_t guessed, std::uint32_t accepted) noexcept {
  for (std::uint32_t i = 0; i < accepted; ++i) rate_ += kWeight * (1 - rate_);
  if (accepted < guessed) rate_ -= kWeight * rate_;  // those behind a wrong one tell nothing
  if (rate_ < kHardlyEver) rest_ = kRestSteps;
}

std::uint32_t Acceptance::length() noexcept {
  if (rest_ > 0) {
    --rest_;
    return 0;
  }
  const double tokens = std::log(kWorthIt) / std::log(std::clamp(rate_, 0.01, 0.99));
  return std::clamp(static_cast<std::uint32_t>(tokens), 1u, kMostAtOnce);
}

void Guesses::read(std::span<const TokenId> ids) {
  if (model_) model_->guess(ids, 0, [](const std::vector<TokenId>&) {});
}

void Guesses::guess(std::span<const TokenId> ids, std::uint32_t most, Guesser::Done done) {
  by_model_ = std::make_shared<bool>(false);  // one a guess: an answer may come too late
  std::vector<TokenId> found = lookup_.guess(ids, most);
  const bool long_match = lookup_.matched() == PromptLookup::kLongest;
  if (!model_ || (long_match && of_lookup_.rate() >= of_model_.rate())) {
    return done(std::move(found));
  }
  const std::uint32_t wanted = std::min(most, of_model_.length());
  if (wanted == 0) return done(std::move(found));
  Guesser::Done take = [by_model = by_model_, found = std::move(found),
                        done = std::move(done)](std::vector<TokenId> guessed) mutable {
    *by_model = !guessed.empty();
    done(*by_model ? std::move(guessed) : std::move(found));
  };
  model_->guess(ids, wanted, std::move(take));
}

void Guesses::judged(std::uint32_t guessed, std::uint32_t accepted) noexcept {
  if (guessed == 0) return;
  if (*by_model_) {
    of_model_.judged(guessed, accepted);
  } else {
    of_lookup_.judged(guessed, accepted);
    lookup_.judged(guessed, accepted);
  }
}

}  // namespace farmesh::driver
