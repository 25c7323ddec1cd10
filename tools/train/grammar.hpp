// Text by rules: reads the files in grammar/, gives expanded phrases to story_grammar.
//
// A file holds rules and records; '#' starts a comment line.
//   [name]            one alternative a line, picked anew at each use
//   [=name]           the same, but picked once a story
//   [@name: a | b]    a table; drawing a line binds its columns as the slots <a> and <b>
// In a phrase, {x|y|z} picks one of its parts, <slot> stands for a bound value or a rule, and
// <Slot> for the same with a capital letter. Lines of rules may nest both without limit.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/result.hpp>

#include "train/random.hpp"

namespace farmesh::train {

using Bindings = std::map<std::string, std::string, std::less<>>;

/// Immutable after parse().
class Grammar {
 public:
  struct Rule {
    bool once = false;  // [=name]
    std::vector<std::string> lines;
  };

  /// `bound` names the slots that the caller binds before it expands anything. Fails with
  /// invalid_argument, naming the line of a syntax error or the slot that nothing defines.
  static Result<Grammar> parse(std::string_view text, const std::vector<std::string>& bound);

  /// Null when there is none.
  const Rule* rule(std::string_view name) const;
  /// Rows of a table, empty when there is none.
  const std::vector<Bindings>& table(std::string_view name) const;

 private:
  std::map<std::string, Rule, std::less<>> rules_;
  std::map<std::string, std::vector<Bindings>, std::less<>> tables_;

  friend class GrammarReader;
};

/// What is settled within one story: bound slots and the choices of [=rules].
class Telling {
 public:
  /// Both must outlive the telling.
  Telling(const Grammar& grammar, Random& random) noexcept : grammar_(grammar), random_(random) {}

  void bind(std::string_view slot, std::string value);
  void bind(const Bindings& row);
  /// Draws a row of a table and binds it.
  void draw(std::string_view table);

  /// A phrase expanded but not yet tidied.
  std::string expand(std::string_view phrase);
  /// A phrase as text: see tidy().
  std::string tell(std::string_view phrase);

 private:
  std::string slot(std::string_view name);

  const Grammar& grammar_;
  Random& random_;
  Bindings bindings_;
  int depth_ = 0;
};

/// Single spaces, a capital after each full stop, and "an" before a vowel.
std::string tidy(std::string_view text);

/// `text` cut at every `separator`, parts trimmed of blanks.
std::vector<std::string> split(std::string_view text, char separator);

}  // namespace farmesh::train
