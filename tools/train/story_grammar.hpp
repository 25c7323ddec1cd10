// The training text: takes the rules in grammar/, gives stories and conversations by number.
//
// A document is a pure function of (seed, index): an endless corpus that needs no disk, and a
// run that resumes at any index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <farmesh/result.hpp>

#include "train/grammar.hpp"
#include "train/random.hpp"

namespace farmesh::train {

struct Turn {
  std::string user;   // what was asked
  std::string reply;  // what the model is to say
};

/// Either a plain story or a conversation of at least one turn; the other is empty.
struct Document {
  std::string story;
  std::vector<Turn> turns;
};

/// Immutable after open(); safe from several threads.
class StoryGrammar {
 public:
  /// Reads cast.txt, plots.txt and chat.txt. Fails with io_error or invalid_argument.
  static Result<StoryGrammar> open(const std::filesystem::path& folder);

  Document document(std::uint64_t seed, std::uint64_t index) const;

 private:
  struct Plot {
    std::string name;   // of the rule that tells it
    std::string needs;  // flag that the story's thing must have; empty: any
  };

  explicit StoryGrammar(Grammar grammar) : grammar_(std::move(grammar)) {}

  const Plot& pick_plot(Random& random) const;
  /// Settles who, where and with what.
  void cast(Telling& telling, const Plot& plot, Random& random) const;
  Turn ask_for_story(Telling& telling, const Plot& plot, Random& random) const;
  Turn line_of(std::string_view rule, Telling& telling, Random& random) const;

  Grammar grammar_;
  std::vector<Plot> plots_;
};

}  // namespace farmesh::train
