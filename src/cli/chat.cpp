// farmesh chat: a conversation at the terminal.
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <farmesh/farmesh.hpp>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/summary.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace farmesh::cli {
namespace {

struct ChatFlags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system;
};

class Chat {
 public:
  Chat(Session session, GenerateOptions options, const std::string& system, Interrupt& interrupt)
      : session_(std::move(session)), options_(std::move(options)), interrupt_(interrupt) {
    if (!system.empty()) messages_.push_back({"system", system});
    kept_ = messages_.size();
  }

  int run() {
    for (std::string line; read(line);) {
      if (line.empty()) continue;
      if (line == "/exit") break;
      if (line == "/reset") {
        messages_.resize(kept_);
        continue;
      }
      messages_.push_back({"user", line});
      if (const Result<void> answered = answer(); !answered) {
        const int code = report(answered.error());
        if (answered.error().code != Errc::context_exceeded) return code;
        messages_.pop_back();  // the conversation is full: /reset makes room
      }
    }
    if (interactive_) std::fputs("\n", stdout);
    return kSuccess;
  }

 private:
  bool read(std::string& line) const {
    if (interactive_) fmt::print("{}> {}", palette_.cyan, palette_.reset);
    std::fflush(stdout);
    return bool(std::getline(std::cin, line));
  }

  Result<void> answer() {
    Waiting waiting("reading");
    TokenStream stream = session_.chat(messages_, options_);
    const Interrupt::Scope cancelling(interrupt_, [&stream] { stream.cancel(); });
    std::string reply;
    for (const Token& token : stream) {
      waiting.stop();
      reply += token.text;
      std::fwrite(token.text.data(), 1, token.text.size(), stdout);
      std::fflush(stdout);
    }
    waiting.stop();
    std::fputs("\n", stdout);
    if (const std::optional<Error> error = stream.error()) return *error;
    if (interactive_) print_summary(stream.usage(), options_.sampling);
    messages_.push_back({"assistant", reply});
    return {};
  }

  Session session_;
  const GenerateOptions options_;
  Interrupt& interrupt_;
  const bool interactive_ = is_terminal(STDIN_FILENO) && is_terminal(STDOUT_FILENO);
  const Palette palette_{STDOUT_FILENO};
  std::vector<ChatMessage> messages_;
  std::size_t kept_ = 0;  // messages that /reset leaves
};

int chat(const ChatFlags& flags) {
  const Result<GenerateOptions> options = flags.sampling.chosen(!flags.model.draft_model.empty());
  if (!options) return report(options.error());
  Interrupt interrupt;
  const Result<DistributedModel> model = flags.model.open();
  if (!model) return report(model.error());
  if (!model->info().has_chat_template) {
    return report({Errc::model_not_found, "the model has no chat template; use generate"});
  }
  Result<Session> session = model->open_session(flags.model.session);
  if (!session) return report(session.error());
  return Chat(*std::move(session), *options, flags.system, interrupt).run();
}

}  // namespace

void add_chat(CLI::App& program, Run& run) {
  const auto flags = std::make_shared<ChatFlags>();
  CLI::App* verb = program.add_subcommand("chat", "Talk with a model, turn by turn");
  flags->model.add_to(*verb);
  verb->add_option("--system", flags->system, "What the model is told about its role")
      ->option_text("TEXT");
  flags->sampling.add_to(*verb);
  verb->footer(R"(
Each line of standard input is a message; /reset forgets the conversation, /exit or Ctrl-D ends.
Ctrl-C stops an answer.

Examples:
  farmesh chat --model models/demo
  farmesh chat --model models/demo --peer 10.0.0.7:31330 --system "You are brief.")");
  verb->callback([flags, &run] { run = [flags] { return chat(*flags); }; });
}

}  // namespace farmesh::cli
