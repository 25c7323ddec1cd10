#include "train/story_grammar.hpp"

#include <cctype>
#include <fstream>
#include <sstream>

#include "base/assert.hpp"

namespace farmesh::train {
namespace {

constexpr double kChatShare = 0.25;  // of documents

// Slots bound by cast().
const std::vector<std::string> kCastSlots = {
    "hero", "kind",    "looks",    "akind",    "xkind",    "he",    "him",   "his",  "self",
    "pal",  "palkind", "pallooks", "apalkind", "xpalkind", "fhe",   "fhim",  "fhis", "fself",
    "aobj", "axobj",   "xobj",     "spot1",    "spot2",    "spot3", "axkind"};

struct Character {
  std::string kind, looks, name;
  Bindings pronouns;
};

/// People type as they like: now and then no capital, no full stop.
std::string typed(std::string text, Random& random) {
  if (random.below(5) == 0) {
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  }
  if (random.below(5) == 0 && (text.back() == '.' || text.back() == '?')) text.pop_back();
  return text;
}

Turn turn_from(const std::string& line) {
  const std::size_t arrow = line.find("=>");
  FARMESH_ASSERT(arrow != std::string::npos);
  return {tidy(line.substr(0, arrow)), tidy(line.substr(arrow + 2))};
}

}  // namespace

Result<StoryGrammar> StoryGrammar::open(const std::filesystem::path& folder) {
  std::ostringstream text;
  for (const char* name : {"cast.txt", "plots.txt", "chat.txt"}) {
    std::ifstream file(folder / name);
    if (!file) return Error{Errc::io_error, "cannot read " + (folder / name).string()};
    text << file.rdbuf() << '\n';
  }
  Result<Grammar> grammar = Grammar::parse(text.str(), kCastSlots);
  if (!grammar) return grammar.error();
  StoryGrammar stories(*std::move(grammar));
  const Grammar::Rule* plots = stories.grammar_.rule("plots");
  if (plots == nullptr) return Error{Errc::invalid_argument, "the grammar has no [plots]"};
  for (const std::string& line : plots->lines) {
    const std::vector<std::string> words = split(line, ' ');
    for (const char* part : {"", ".ask", ".quiz"}) {
      if (stories.grammar_.rule(words[0] + part) == nullptr) {
        return Error{Errc::invalid_argument, "the plot has no [" + words[0] + part + "]"};
      }
    }
    stories.plots_.push_back({words[0], words.size() > 1 ? words[1] : ""});
  }
  return stories;
}

const StoryGrammar::Plot& StoryGrammar::pick_plot(Random& random) const {
  return plots_[random.below(plots_.size())];
}

void StoryGrammar::cast(Telling& telling, const Plot& plot, Random& random) const {
  const auto& beings = grammar_.table("being");
  const auto& sexes = grammar_.table("sex");
  const auto draw = [&](const Character* other) {
    while (true) {
      const Bindings& row = beings[random.below(beings.size())];
      Character character{row.at("kind"), telling.expand(row.at("looks")), {}, {}};
      const std::size_t sex = row.at("sex") == "any" ? random.below(2) : row.at("sex") == "she";
      character.pronouns = sexes[sex];
      character.name = telling.expand("<" + row.at("pool") + "." + sexes[sex].at("he") + ">");
      if (other == nullptr || (other->kind != character.kind && other->name != character.name)) {
        return character;
      }
    }
  };
  const Character hero = draw(nullptr);
  const Character pal = draw(&hero);
  telling.bind(hero.pronouns);
  telling.bind({{"hero", hero.name},
                {"kind", hero.kind},
                {"looks", hero.looks},
                {"akind", "a <looks> <kind>"},
                {"xkind", "{a <kind>|a <kind>|a <looks> <kind>}"}});
  telling.bind({{"pal", pal.name},
                {"palkind", pal.kind},
                {"pallooks", pal.looks},
                {"apalkind", "a <pallooks> <palkind>"},
                {"xpalkind", "a <palkind>"},
                {"fhe", pal.pronouns.at("he")},
                {"fhim", pal.pronouns.at("him")},
                {"fhis", pal.pronouns.at("his")},
                {"fself", pal.pronouns.at("self")}});

  std::vector<const Bindings*> things;
  for (const Bindings& thing : grammar_.table("thing")) {
    if (thing.at("flags").find(plot.needs) != std::string::npos) things.push_back(&thing);
  }
  Bindings thing = *things[random.below(things.size())];
  thing["objlooks"] = telling.expand(thing["objlooks"]);
  telling.bind(thing);
  telling.bind({{"aobj", "a <objlooks> <obj>"},
                {"axobj", "a <obj>"},
                {"xobj", "{a <obj>|a <obj>|a <objlooks> <obj>}"}});

  for (const char* table : {"place", "craft", "noise", "plant"}) telling.draw(table);
  telling.bind("in", telling.expand("<in>"));
  std::vector<std::string> spots = split(telling.expand("<spots>"), ';');
  for (const char* slot : {"spot1", "spot2", "spot3"}) {
    const std::size_t choice = random.below(spots.size());
    telling.bind(slot, spots[choice]);
    spots.erase(spots.begin() + static_cast<std::ptrdiff_t>(choice));
  }
}

Turn StoryGrammar::line_of(std::string_view rule, Telling& telling, Random& random) const {
  const auto& lines = grammar_.rule(rule)->lines;
  Turn turn = turn_from(telling.expand(lines[random.below(lines.size())]));
  turn.user = typed(std::move(turn.user), random);
  return turn;
}

Turn StoryGrammar::ask_for_story(Telling& telling, const Plot& plot, Random& random) const {
  // The story first: its once-only choices are what the request then names.
  std::string story = telling.tell("<" + plot.name + ">");
  const std::size_t kind = random.below(10);
  const std::string rule = kind < 5 ? plot.name + ".ask" : kind < 9 ? "ask" : "askany";
  return {typed(telling.tell("<" + rule + ">"), random), std::move(story)};
}

Document StoryGrammar::document(std::uint64_t seed, std::uint64_t index) const {
  Random random(seed * 0x2545f4914f6cdd1dULL + index);
  random.next();
  Document document;
  Telling telling(grammar_, random);
  const Plot& plot = pick_plot(random);
  cast(telling, plot, random);
  if (random.uniform() >= kChatShare) {
    document.story = telling.tell("<" + plot.name + ">");
    return document;
  }
  std::vector<Turn>& turns = document.turns;
  if (random.below(4) == 0) turns.push_back(line_of("smalltalk", telling, random));
  if (!turns.empty() && random.below(3) == 0) return document;
  turns.push_back(ask_for_story(telling, plot, random));
  if (random.below(2) == 0) {
    for (std::size_t asked = 1 + random.below(2); asked > 0; --asked) {
      turns.push_back(
          line_of(random.below(2) == 0 ? plot.name + ".quiz" : "quiz", telling, random));
    }
  }
  const std::size_t last = random.below(4);
  if (last == 0) turns.push_back(line_of("praise", telling, random));
  if (last == 1) {
    const Plot& next = pick_plot(random);
    Telling another(grammar_, random);
    cast(another, next, random);
    std::string wish = typed(another.tell("<more>"), random);
    turns.push_back({std::move(wish), another.tell("<" + next.name + ">")});
  }
  return document;
}

}  // namespace farmesh::train
