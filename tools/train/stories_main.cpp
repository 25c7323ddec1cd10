// farmesh_stories: the text side of the demo model. It writes what farmesh_train learns from,
// and turns text to ids and back. docs/demo-model.md has the whole recipe.
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "train/story_grammar.hpp"
#include "train/token_file.hpp"
#include "train/vocabulary.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::train;
namespace fs = std::filesystem;

constexpr std::uint64_t kTokenizerDocuments = 20'000;

int fail(const Error& error) {
  std::fprintf(stderr, "farmesh_stories: %s\n", error.to_string().c_str());
  return 1;
}

int show(const StoryGrammar& stories, std::uint64_t seed, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const Document document = stories.document(seed, i);
    if (!document.story.empty()) std::printf("%s\n", document.story.c_str());
    for (const Turn& turn : document.turns) {
      std::printf("> %s\n%s\n", turn.user.c_str(), turn.reply.c_str());
    }
    std::printf("\n");
  }
  return 0;
}

Result<void> learn_vocabulary(const StoryGrammar& stories, std::uint64_t seed, int pieces,
                              const fs::path& file) {
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < kTokenizerDocuments; ++i) {
    const Document document = stories.document(seed, i);
    if (!document.story.empty()) texts.push_back(document.story);
    for (const Turn& turn : document.turns) texts.insert(texts.end(), {turn.user, turn.reply});
  }
  // Every printable letter gets a piece of its own, though the stories lack some.
  std::string letters;
  for (char c = '!'; c <= '~'; ++c) letters += {c, ' '};
  texts.push_back(letters);
  return Vocabulary::learn(texts, pieces, file);
}

/// The tokenizer into the model folder, the documents in its ids beside it.
int prepare(const StoryGrammar& stories, std::uint64_t seed, std::uint64_t count, int pieces,
            const fs::path& folder, const fs::path& corpus) {
  std::error_code ignored;
  fs::create_directories(folder, ignored);  // one that is missing fails at the write
  const fs::path file = folder / "tokenizer.model";
  if (auto learned = learn_vocabulary(stories, seed, pieces, file); !learned) {
    return fail(learned.error());
  }
  const auto vocabulary = Vocabulary::open(file);
  if (!vocabulary) return fail(vocabulary.error());
  std::vector<std::uint16_t> tokens;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto document = vocabulary->tokens(stories.document(seed, i));
    tokens.insert(tokens.end(), document.begin(), document.end());
  }
  if (auto written = write_tokens(corpus, tokens); !written) return fail(written.error());
  std::printf("%lu documents, %zu tokens, %d pieces\n", count, tokens.size(), vocabulary->size());
  return 0;
}

int encode(const Vocabulary& vocabulary, const std::string& text, bool chat) {
  for (const int id : vocabulary.prompt(text, chat)) std::printf("%d ", id);
  std::printf("\n");
  return 0;
}

int decode(const Vocabulary& vocabulary) {
  std::vector<int> ids;
  for (int id = 0; std::cin >> id;) ids.push_back(id);
  std::printf("%s\n", vocabulary.decode(ids).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Writes the stories that the demo model learns from."};
  app.require_subcommand(1);
  std::string grammar = FARMESH_GRAMMAR_FOLDER, folder, corpus, text = "Once upon a time";
  std::uint64_t seed = 1, count = 10, documents = 30'000;
  int pieces = 2048;
  bool chat = false;
  app.add_option("--grammar", grammar, "Folder of the story rules")->capture_default_str();
  app.add_option("--seed", seed, "Same seed, same text")->capture_default_str();

  auto* show_command = app.add_subcommand("show", "Print documents");
  show_command->add_option("--count", count)->capture_default_str();
  auto* prepare_command = app.add_subcommand("prepare", "Learn a tokenizer, write the corpus");
  prepare_command->add_option("--model", folder, "Model folder to begin")->required();
  prepare_command->add_option("--corpus", corpus, "File of token ids to write")->required();
  prepare_command->add_option("--documents", documents)->capture_default_str();
  prepare_command->add_option("--pieces", pieces, "Vocabulary size, below 32768")
      ->capture_default_str()
      ->check(CLI::Range(512, 32767));
  auto* encode_command = app.add_subcommand("encode", "Ids of a prompt, for farmesh_train");
  encode_command->add_option("--model", folder, "Model folder")->required();
  encode_command->add_option("--prompt", text)->capture_default_str();
  encode_command->add_flag("--chat", chat, "The prompt is what a user says");
  auto* decode_command = app.add_subcommand("decode", "Text of the ids on standard input");
  decode_command->add_option("--model", folder, "Model folder")->required();
  CLI11_PARSE(app, argc, argv);

  if (*encode_command || *decode_command) {
    const auto vocabulary = Vocabulary::open(fs::path(folder) / "tokenizer.model");
    if (!vocabulary) return fail(vocabulary.error());
    return *encode_command ? encode(*vocabulary, text, chat) : decode(*vocabulary);
  }
  const auto stories = StoryGrammar::open(grammar);
  if (!stories) return fail(stories.error());
  if (*show_command) return show(*stories, seed, count);
  return prepare(*stories, seed, documents, pieces, folder, corpus);
}
