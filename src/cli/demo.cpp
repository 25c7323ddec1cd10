// farmesh demo: three processes tell a story, one of them is killed, the story goes on.
#include <filesystem>
#include <memory>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/demo_payments.hpp"
#include "cli/demo_serve.hpp"
#include "cli/demo_story.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/node_process.hpp"
#include "cli/stop_request.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "model/model_folder.hpp"

namespace farmesh::cli {
namespace {

constexpr int kReadingPace = 30;  // milliseconds a token, for eyes

// models/demo of the source tree or the install tree that this program lies in.
std::string find_demo_model() {
  namespace fs = std::filesystem;
  for (fs::path folder = fs::path(own_program()).parent_path();; folder = folder.parent_path()) {
    for (const char* place : {"models/demo", "share/farmesh/models/demo"}) {
      if (fs::exists(folder / place / "config.json")) return folder / place;
    }
    if (folder == folder.parent_path()) return {};
  }
}

int demo(DemoOptions options, bool payments, bool serve) {
  StopRequest stop;
  if (options.model.empty()) options.model = find_demo_model();
  if (options.model.empty()) {
    return report(
        {Errc::model_not_found, "models/demo is not near this program; give --model DIR"});
  }
  const Result<model::ModelConfig> config = model::read_model_config(options.model);
  if (!config) return report(config.error());
  if (config->num_layers < 3) {
    return report({Errc::invalid_argument, "the demo needs a model of three layers or more"});
  }
  if (payments) {
    const Result<bool> equal =
        show_payments({.model = options.model, .layers = config->num_layers});
    if (!equal) return report(equal.error());
    return *equal ? kSuccess : kFailure;
  }
  if (options.pace.count() < 0) {
    options.pace = std::chrono::milliseconds(is_terminal(STDOUT_FILENO) ? kReadingPace : 0);
  }
  Afterwards afterwards;
  if (serve) {
    afterwards = [&options, &stop](const std::vector<std::string>& peers) {
      DemoServeOptions serving{options.model, peers, options.prompt, {}};
      if (is_terminal(STDOUT_FILENO)) {
        serving.wait = [&stop] {
          stop.ready();
          stop.wait();
        };
      }
      return serve_demo(serving);
    };
  }
  const Result<bool> same = tell_story(options, config->num_layers, afterwards);
  if (!same) return report(same.error());
  return *same ? kSuccess : kFailure;
}

}  // namespace

void add_demo(CLI::App& program, Run& run) {
  const auto options = std::make_shared<DemoOptions>();
  const auto pace_ms = std::make_shared<int>(-1);
  const auto payments = std::make_shared<bool>(false);
  options->generate.max_tokens = 300;
  options->generate.sampling.temperature = 0.5f;
  options->generate.sampling.seed = 7;

  CLI::App* verb = program.add_subcommand(
      "demo", "Three peers tell a story; one is killed; the story goes on, word for word");
  verb->add_option("--model", options->model, "Folder; default: models/demo")->option_text("DIR");
  add_option_with_default(*verb, "--prompt", options->prompt, "How the story begins", "TEXT");
  add_option_with_default(*verb, "--max-tokens", options->generate.max_tokens, "Most tokens of it",
                          "N");
  add_option_with_default(*verb, "--temperature", options->generate.sampling.temperature,
                          "0: always the likeliest token", "N");
  add_option_with_default(*verb, "--seed", options->generate.sampling.seed,
                          "Another seed tells another story", "N");
  add_option_with_default(*verb, "--kill-at", options->kill_at,
                          "Kill a peer after N tokens or a little later", "N");
  verb->add_option("--pace", *pace_ms, "Milliseconds between tokens; default: 30 at a terminal")
      ->check(CLI::Range(0, 10'000))
      ->option_text("MS");
  verb->add_flag(
      "--payments", *payments,
      "A deposit, a session on three nodes, a batch that pays them, on a chain of its own");
  const auto no_serve = std::make_shared<bool>(false);
  verb->add_flag("--no-serve", *no_serve, "End after the story, without a coordinator");
  verb->footer(R"(
Ends in a coordinator over the peers that are left, and a curl line for it: until Ctrl-C at a
terminal, otherwise for as long as it takes to try that line.

Exits with 0 only if a peer was lost, the story still equals, token by token, the one that a single
process tells, and the coordinator streams. With --payments: only if ledger and chain agree to the last unit.

Examples:
  farmesh demo
  farmesh demo --seed 11 --kill-at 60
  ./run demo --payments)");
  verb->callback([options, pace_ms, payments, no_serve, &run] {
    options->pace = std::chrono::milliseconds(*pace_ms);
    run = [options, payments, no_serve] { return demo(*options, *payments, !*no_serve); };
  });
}

}  // namespace farmesh::cli
