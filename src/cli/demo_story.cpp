#include "cli/demo_story.hpp"

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <farmesh/farmesh.hpp>

#include "cli/node_process.hpp"
#include "cli/terminal.hpp"

namespace farmesh::cli {
namespace {

using std::chrono::steady_clock;

constexpr std::uint32_t kParts = 3;

// The four processes, numbered from 1 for people.
class Swarm {
 public:
  Result<void> start(const std::string& model, std::uint32_t layers) {
    std::vector<Span> spans = even_split(layers, kParts);
    spans.push_back(spans[1]);  // stands by for the middle
    const Waiting waiting("starting four peers");
    for (const Span span : spans) {
      Result<NodeProcess> node = NodeProcess::start(
          {.program = own_program(), .model = model, .layers = span, .more = {"--threads", "1"}});
      if (!node) return node.error();
      nodes_.push_back(*std::move(node));
    }
    for (NodeProcess& node : nodes_) {
      if (const Result<void> ready = node.await_listening(); !ready) return ready;
    }
    return {};
  }

  const std::vector<NodeProcess>& nodes() const { return nodes_; }

  std::vector<std::string> addresses() const {
    std::vector<std::string> all;
    for (const NodeProcess& node : nodes_) all.push_back(node.address());
    return all;
  }

  int number_of(const std::string& address) const {
    int number = 1;
    for (const NodeProcess& node : nodes_) {
      if (node.address() == address) return number;
      ++number;
    }
    return 0;
  }

  void kill(int number) {
    nodes_[std::size_t(number) - 1].process().signal(SIGKILL);
    killed_ = nodes_[std::size_t(number) - 1].address();
  }

  std::vector<std::string> living() const {
    std::vector<std::string> all = addresses();
    std::erase(all, killed_);
    return all;
  }

 private:
  std::vector<NodeProcess> nodes_;
  std::string killed_;
};

// Prints tokens as they come; in mid-sentence kills the peer in the middle of the route, and
// notes when another has taken over.
class Teller {
 public:
  Teller(const DemoOptions& options, Swarm& swarm) : options_(options), swarm_(swarm) {}

  /// The usage of the whole story.
  Result<Usage> tell(TokenStream stream) {
    fmt::print("{}{}{}", palette_.bold, options_.prompt, palette_.reset);
    while (true) {
      std::fflush(stdout);
      const auto asked = steady_clock::now();
      Result<std::optional<Token>> token = stream.next();
      waited_ += steady_clock::now() - asked;
      if (!token) return token.error();
      if (!*token) break;

      const Usage usage = stream.usage();
      if (killed_ != 0 && !replaced_) note_takeover(usage);
      fmt::print("{}", (*token)->text);
      if (killed_ == 0 && usage.tokens >= options_.kill_at && in_sentence((*token)->text)) {
        kill_middle(usage);
      }
      std::this_thread::sleep_for(options_.pace);
    }
    fmt::print("\n\n");
    return stream.usage();
  }

  bool replaced() const { return replaced_; }

 private:
  static bool in_sentence(const std::string& text) {
    return !text.empty() && std::isalpha(static_cast<unsigned char>(text.back())) != 0;
  }

  void kill_middle(const Usage& usage) {
    if (usage.hops.size() < kParts) return;
    killed_ = swarm_.number_of(usage.hops[1].peer);
    swarm_.kill(killed_);
    waited_ = {};
    fmt::print("{} [peer {} killed]{}", palette_.red, killed_, palette_.reset);
  }

  void note_takeover(const Usage& usage) {
    const int serving = usage.hops.size() < kParts ? 0 : swarm_.number_of(usage.hops[1].peer);
    if (serving == killed_) return;
    replaced_ = true;
    fmt::print("{} [peer {} took over, {:.0f} ms]{}", palette_.green, serving,
               std::chrono::duration<double, std::milli>(waited_).count(), palette_.reset);
  }

  const DemoOptions& options_;
  Swarm& swarm_;
  const Palette palette_{STDOUT_FILENO};
  steady_clock::duration waited_{};  // for tokens, since the kill
  int killed_ = 0;
  bool replaced_ = false;
};

struct Telling {
  std::vector<TokenId> ids;
  Usage usage;
};

// The same story as fast as it goes, with nobody watching.
Result<Telling> retell(const DistributedModel& model, const DemoOptions& options) {
  Result<Session> session = model.open_session();
  if (!session) return session.error();
  TokenStream stream = session->generate(options.prompt, options.generate);
  for (const Token& token : stream) (void)token;
  if (const std::optional<Error> error = stream.error()) return *error;
  return Telling{session->ids(), stream.usage()};
}

void print_peers(const Swarm& swarm, const DemoOptions& options) {
  fmt::print("{}, on four processes of this machine, driven by a fifth\n",
             std::filesystem::path(options.model).filename().string());
  for (const NodeProcess& node : swarm.nodes()) {
    const bool spare = &node == &swarm.nodes().back();
    fmt::print("  peer {}  {:<16} layers {}:{}{}\n", swarm.number_of(node.address()),
               node.address(), node.layers().begin, node.layers().end,
               spare ? "  (one too many, to stand by)" : "");
  }
  fmt::print("\n");
}

void print_route(const Swarm& swarm, const Usage& usage) {
  fmt::print("route at the end\n");
  for (const HopUsage& hop : usage.hops) {
    fmt::print("  peer {}  {:<16} layers {}:{}  {:.2f} ms a token\n", swarm.number_of(hop.peer),
               hop.peer, hop.span.begin, hop.span.end, hop.ms);
  }
}

}  // namespace

Result<bool> tell_story(const DemoOptions& options, std::uint32_t layers,
                        const Afterwards& afterwards) {
  Swarm swarm;
  if (const Result<void> started = swarm.start(options.model, layers); !started) {
    return started.error();
  }
  print_peers(swarm, options);

  ModelOptions mesh_options;
  mesh_options.folder = options.model;
  mesh_options.peers = swarm.addresses();
  mesh_options.threads = 1;
  const Result<DistributedModel> mesh = DistributedModel::open(mesh_options);
  if (!mesh) return mesh.error();
  SessionOptions session_options;
  session_options.buffer_tokens = 1;  // the peers keep step with the reader: the kill is real
  Result<Session> session = mesh->open_session(session_options);
  if (!session) return session.error();
  Teller teller(options, swarm);
  const Result<Usage> usage = teller.tell(session->generate(options.prompt, options.generate));
  if (!usage) return usage.error();
  print_route(swarm, *usage);

  const Result<Telling> unwatched = retell(*mesh, options);
  if (!unwatched) return unwatched.error();
  const Result<DistributedModel> alone =
      DistributedModel::open({.folder = options.model, .local = true, .threads = 1});
  if (!alone) return alone.error();
  const Result<Telling> reference = retell(*alone, options);
  if (!reference) return reference.error();
  fmt::print("speed\n  over three peers  {:.0f} tokens a second\n  in one process    {:.0f}\n\n",
             unwatched->usage.tokens_per_second, reference->usage.tokens_per_second);

  const Palette palette(STDOUT_FILENO);
  const bool same = session->ids() == reference->ids && unwatched->ids == reference->ids;
  if (!same) {
    fmt::print("{}The story differs from the one that a single process tells.{}\n", palette.red,
               palette.reset);
  } else if (!teller.replaced()) {
    fmt::print("The story was over before a peer could be killed; try a smaller --kill-at.\n");
  } else {
    fmt::print("{}Word for word what one process tells alone: {} tokens, one peer lost.{}\n",
               palette.green, usage->tokens, palette.reset);
  }
  if (!same || !teller.replaced()) return false;
  std::fflush(stdout);
  if (!afterwards) return true;
  const Result<void> done = afterwards(swarm.living());
  if (!done) return done.error();
  return true;
}

}  // namespace farmesh::cli
