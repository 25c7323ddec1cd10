// The public Session and DistributedModel, over a real engine in this process.
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

DistributedModel open_local(const std::string& folder) {
  Result<DistributedModel> model =
      DistributedModel::open({.folder = folder, .local = true, .threads = 1});
  REQUIRE(model);
  return *std::move(model);
}

GenerateOptions greedy(std::uint32_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  return options;
}

std::string read_all(TokenStream stream) {
  std::string text;
  for (const Token& token : stream) text += token.text;
  const std::optional<Error> error = stream.error();
  INFO((error ? error->to_string() : ""));
  CHECK_FALSE(error);
  return text;
}

/// How many cores each thread of this process named `name` may use.
std::multiset<int> cores_of(const std::string& name) {
  std::multiset<int> cores;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, comm);
    cpu_set_t mask;
    CPU_ZERO(&mask);
    const pid_t id = std::stoi(task.path().filename());
    if (comm == name && sched_getaffinity(id, sizeof mask, &mask) == 0) {
      cores.insert(CPU_COUNT(&mask));
    }
  }
  return cores;
}

}  // namespace

TEST_SUITE("integration/session") {
  TEST_CASE("threads that are bound take the network thread along, and compute the same") {
    const DistributedModel free = open_local(any_model());
    auto told = free.open_session();
    const std::string text = read_all(told->generate(kStoryPrompt, greedy(8)));
    const auto one_core = [](const char* name) { return cores_of(name).count(1); };
    const std::size_t networks = one_core("fm-net");
    const std::size_t computers = one_core("fm-compute");

    const Result<DistributedModel> bound = DistributedModel::open(
        {.folder = any_model(), .local = true, .threads = 2, .pin_threads = 0});
    REQUIRE(bound);
    CHECK(read_all(bound->open_session()->generate(kStoryPrompt, greedy(8))) == text);
    CHECK(one_core("fm-net") == networks + 1);
    CHECK(one_core("fm-compute") == computers + 1);
  }

  TEST_CASE("two turns of one session equal one turn over both texts") {
    const DistributedModel model = open_local(any_model());
    auto talked = model.open_session();
    read_all(talked->generate(kStoryPrompt, greedy(12)));
    const std::vector<TokenId> before = talked->ids();
    read_all(talked->generate(" and then", greedy(12)));

    auto fresh = model.open_session();
    std::vector<TokenId> prompt = before;
    const auto more = model.encode(" and then", false);
    prompt.insert(prompt.end(), more->begin(), more->end());
    read_all(fresh->generate_ids(prompt, greedy(12)));
    CHECK(talked->ids() == fresh->ids());
  }

  TEST_CASE("a session runs one turn at a time") {
    const DistributedModel model = open_local(any_model());
    auto session = model.open_session({.buffer_tokens = 1});
    TokenStream first = session->generate(kStoryPrompt, greedy(50));
    REQUIRE(*first.next());
    CHECK(session->generate("more", greedy(5)).next().error().code == Errc::busy);
    REQUIRE(*first.next());  // the first is none the worse
    first.cancel();
    CHECK(read_all(session->generate("more", greedy(5))) != "");
  }

  TEST_CASE("a stream outlives its session and its model") {
    std::optional<TokenStream> stream;
    {
      const DistributedModel model = open_local(any_model());
      stream = model.open_session()->generate(kStoryPrompt, greedy(200));
    }
    int read = 0;
    for (const Token& token : *stream) read += token.id > 0 ? 1 : 1;
    CHECK(read == 200);
    CHECK_FALSE(stream->error());
  }

  TEST_CASE("streams dropped at any moment leave nothing that hinders the next") {
    const DistributedModel model = open_local(any_model());
    auto session = model.open_session();
    for (int reads = 0; reads < 6; ++reads) {
      TokenStream stream = session->generate(kStoryPrompt, greedy(40));
      for (int i = 0; i < reads; ++i) REQUIRE(*stream.next());
    }
    CHECK(read_all(session->generate(kStoryPrompt, greedy(3))) != "");
  }

  TEST_CASE("a context that is promised smaller is where the text ends") {
    const DistributedModel model = open_local(any_model());
    auto session = model.open_session({.context_tokens = 32});
    TokenStream stream = session->generate(kStoryPrompt, greedy(1'000));
    for (const Token& token : stream) (void)token;
    CHECK(stream.usage().finish == FinishReason::length);
    CHECK(session->ids().size() == 32);
    CHECK(session->generate("more", greedy(1)).next().error().code == Errc::context_exceeded);
  }

  TEST_CASE("a prompt of nothing at all is refused, and the session stays usable") {
    const DistributedModel model = open_local(any_model());
    auto session = model.open_session();
    CHECK(session->generate_ids({}, greedy(1)).next().error().code == Errc::invalid_argument);
    CHECK(session->generate_ids({4'000'000'000}, greedy(1)).next().error().code ==
          Errc::invalid_argument);
    CHECK(session->ids().empty());
    CHECK(read_all(session->generate(kStoryPrompt, greedy(3))) != "");
  }

  TEST_CASE("text that is decoded is the text that was encoded") {
    const DistributedModel model = open_local(any_model());
    const auto ids = model.encode("Once upon a time, there was a fox.");
    REQUIRE(ids);
    CHECK(model.decode(*ids) == "Once upon a time, there was a fox.");
    CHECK(model.info().num_layers == layers_of(any_model()));
    CHECK(model.info().model_hash.size() == 64);
  }

  TEST_CASE("after fork() the child is refused, may destroy everything, and the parent goes on") {
    const DistributedModel model = open_local(any_model());
    auto session = model.open_session({.buffer_tokens = 1});
    TokenStream stream = session->generate(kStoryPrompt, greedy(20));
    REQUIRE(*stream.next());
    const pid_t child = ::fork();
    if (child == 0) {
      bool refused = stream.next().error().code == Errc::unsupported &&
                     model.open_session().error().code == Errc::unsupported &&
                     session->generate("x").next().error().code == Errc::unsupported;
      stream.cancel();
      {
        const TokenStream gone = std::move(stream);
        const Session also = *std::move(session);
      }
      ::_exit(refused ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(*stream.next());
  }
}

}  // namespace farmesh::test
