// farmesh_train: the torch side of the demo model. docs/demo-model.md has the whole recipe.
#include <cstdio>
#include <iostream>
#include <limits>

#include <CLI/CLI.hpp>
#include <malloc.h>

#include "train/trainer.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::train;

int fail(const Error& error) {
  std::fprintf(stderr, "farmesh_train: %s\n", error.to_string().c_str());
  return 1;
}

int learn(const std::string& corpus, const TrainOptions& options) {
  auto tokens = read_tokens(corpus);
  if (!tokens) return fail(tokens.error());
  const auto trained = train_model(Corpus(*std::move(tokens)), options);
  return trained ? 0 : fail(trained.error());
}

int tell(const std::string& folder, const SampleOptions& options) {
  std::vector<int> prompt;
  for (int id = 0; std::cin >> id;) prompt.push_back(id);
  const auto said = continue_prompt(folder, prompt, options);
  if (!said) return fail(said.error());
  for (const int id : *said) std::printf("%d ", id);
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains the demo model: a small decoder that tells children's stories."};
  app.require_subcommand(1);
  TrainOptions options;
  std::string corpus, folder;
  auto* learn_command = app.add_subcommand("learn", "Train and write the model's files");
  learn_command->add_option("--corpus", corpus, "Token ids by farmesh_stories")->required();
  learn_command->add_option("--out", options.out, "Model folder to write")->required();
  learn_command->add_option("--steps", options.steps, "Updates")->capture_default_str();
  learn_command->add_option("--minutes", options.minutes, "End sooner, schedule included");
  learn_command->add_option("--seed", options.seed, "First weights")->capture_default_str();
  learn_command->add_option("--threads", options.threads)->capture_default_str();
  learn_command->add_option("--vocabulary", options.vocabulary)->capture_default_str();
  learn_command->add_option("--rate", options.learning_rate, "Learning rate at its peak")
      ->capture_default_str();
  learn_command->add_option("--tokens", options.tokens_per_step, "Tokens in one update")
      ->capture_default_str();
  learn_command->add_option("--checkpoint", options.checkpoint, "File to save to, resume from");

  SampleOptions sampling;
  auto* tell_command = app.add_subcommand("tell", "Continue the ids on standard input");
  tell_command->add_option("--model", folder, "Model folder")->required();
  tell_command->add_option("--temperature", sampling.temperature, "0: greedy");
  tell_command->add_option("--seed", sampling.seed)->capture_default_str();
  tell_command->add_option("--max-tokens", sampling.max_tokens)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  // Activations of one step are freed and asked for again in the next: keep their pages.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  return *learn_command ? learn(corpus, options) : tell(folder, sampling);
}
