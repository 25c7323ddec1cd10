// farmesh generate: one prompt, one continuation, as text or as JSON lines.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include <CLI/App.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <farmesh/farmesh.hpp>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/json.hpp"
#include "cli/summary.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace farmesh::cli {
namespace {

struct GenerateFlags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string prompt;
  bool json = false;
  bool echo = false;
};

// The prompt as given, or standard input when it is "-".
std::string prompt_text(const std::string& prompt) {
  if (prompt != "-") return prompt;
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

// Writes what the stream gives, as it comes.
class Output {
 public:
  Output(bool json, const std::string& prompt) : json_(json), text_(prompt) {}

  void begin(bool echo) const {
    if (!json_ && echo) write(text_);
  }

  void token(const Token& token) {
    text_ += token.text;
    ++tokens_;
    if (json_) {
      write(to_line(json_of(token)));
    } else {
      write(token.text);
    }
  }

  void end(const Session& session, const Usage& usage, std::uint64_t seed) const {
    if (!json_) {
      write("\n");
      return;
    }
    nlohmann::ordered_json last;
    last["text"] = text_;
    last["token_ids"] = session.ids();
    append_usage(last, usage, seed);
    write(to_line(last));
  }

  void failure(const Error& error) const {
    if (json_) {
      write(to_line(json_of(error)));
    } else if (tokens_ > 0) {
      write("\n");
    }
  }

 private:
  static void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const bool json_;
  std::string text_;  // prompt and output
  int tokens_ = 0;
};

int generate(const GenerateFlags& flags) {
  const std::string prompt = prompt_text(flags.prompt);
  Output output(flags.json, prompt);
  const auto failed = [&output](const Error& error) {
    output.failure(error);
    return report(error);
  };
  const Result<GenerateOptions> options = flags.sampling.chosen(!flags.model.draft_model.empty());
  if (!options) return failed(options.error());

  // The stream lives on this thread; an interrupt waits until there is one to cancel.
  Interrupt interrupt;
  const Result<DistributedModel> model = flags.model.open();
  if (!model) return failed(model.error());
  Result<Session> session = model->open_session(flags.model.session);
  if (!session) return failed(session.error());

  Waiting waiting("reading the prompt");
  TokenStream stream = session->generate(prompt, *options);
  const Interrupt::Scope cancelling(interrupt, [&stream] { stream.cancel(); });
  output.begin(flags.echo);
  for (const Token& token : stream) {
    waiting.stop();
    output.token(token);
  }
  waiting.stop();
  if (const std::optional<Error> error = stream.error()) return failed(*error);

  const Usage usage = stream.usage();
  output.end(*session, usage, options->sampling.seed);
  if (!flags.json && is_terminal(STDERR_FILENO)) print_summary(usage, options->sampling);
  return usage.finish == FinishReason::cancelled ? kInterrupted : kSuccess;
}

}  // namespace

void add_generate(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<GenerateFlags>();
  CLI::App* verb = program.add_subcommand("generate", "Continue a prompt");
  flags->model.add_to(*verb);
  verb->add_option("--prompt", flags->prompt, "Text to continue; - reads standard input")
      ->required()
      ->option_text("TEXT");
  flags->sampling.add_to(*verb);
  verb->add_option("--logprobs", flags->sampling.options.sampling.top_logprobs,
                   "With --json: the N likeliest tokens at each place, at most 20")
      ->option_text("N");
  verb->add_flag("--json", flags->json, "A line of JSON for each token, and one for the whole");
  verb->add_flag("--echo", flags->echo, "Print the prompt before its continuation");
  verb->footer(R"(
Examples:
  farmesh generate --model models/demo --prompt "Once upon a time" --temperature 0
  farmesh generate --model models/demo --peer 10.0.0.7:31330 --peer 10.0.0.8:31330 --prompt "Hi"
  farmesh generate --model models/demo --prompt - --json <story.txt)");
  verb->callback([flags, &run] { run = [flags] { return generate(*flags); }; });
}

}  // namespace farmesh::cli
