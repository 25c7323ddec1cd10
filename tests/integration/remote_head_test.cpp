// A client that opens no weights: a peer hosts the head, and another one when that peer dies.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include <farmesh/farmesh.hpp>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

namespace fs = std::filesystem;

// The model's words without its weights.
std::string weightless_copy(const std::string& model) {
  const fs::path copy = scratch() / "weightless";
  fs::create_directories(copy);
  for (const fs::directory_entry& file : fs::directory_iterator(model)) {
    if (file.path().extension() == ".safetensors" || !file.is_regular_file()) continue;
    fs::copy_file(file.path(), copy / file.path().filename(), fs::copy_options::overwrite_existing);
  }
  return copy;
}

std::vector<TokenId> local_ids(const std::string& folder, const GenerateOptions& options) {
  const auto model = DistributedModel::open({.folder = folder, .local = true, .threads = 1});
  REQUIRE(model);
  auto session = model->open_session();
  for (const Token& token : session->generate(kStoryPrompt, options)) (void)token;
  return session->ids();
}

GenerateOptions sampled(std::uint32_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.seed = 11;
  options.sampling.temperature = 1;
  options.sampling.repetition_penalty = 1.1f;
  options.sampling.presence_penalty = 0.3f;
  options.ignore_eos = true;
  return options;
}

}  // namespace

TEST_SUITE("integration/remote_head") {
  TEST_CASE("a folder without weights gives the reference's ids through a peer's head") {
    if (stories().empty()) return;
    std::vector<cli::NodeProcess> nodes = start_nodes(stories(), {{0, 2}}, {"--head"});
    for (cli::NodeProcess& node : start_nodes(stories(), {{2, 5}}))
      nodes.push_back(std::move(node));
    const Generated generated = generate(
        std::vector<std::string>{"--model", weightless_copy(stories()), "--prompt", kStoryPrompt,
                                 "--temperature", "0", "--max-tokens", "55", "--remote-head"} +
        peer_flags(nodes));
    INFO(generated.errors);
    REQUIRE(generated.status == 0);
    CHECK(generated.ids() == story_ids());
    CHECK(generated.last.at("hops").size() == 2);
  }

  TEST_CASE("the head's peer killed in mid-text: another goes on, no token lost or told twice") {
    const std::string folder = any_model();
    const Span all{0, layers_of(folder)};
    const std::vector<TokenId> expected = local_ids(folder, sampled(200));
    // Which of the two drives, and over which, is theirs to choose: each is killed once.
    for (const std::size_t victim : {0u, 1u}) {
      std::vector<cli::NodeProcess> heads = start_nodes(folder, {all, all}, {"--head"});
      const auto model = DistributedModel::open(
          {.folder = weightless_copy(folder), .peers = addresses(heads), .remote_head = true});
      REQUIRE(model);
      auto session = model->open_session();
      TokenStream stream = session->generate(kStoryPrompt, sampled(200));
      std::uint32_t read = 0;
      for (const Token& token : stream) {
        (void)token;
        if (++read == 5) heads[victim].process().signal(SIGKILL);
      }
      const std::optional<Error> error = stream.error();
      INFO((error ? error->to_string() : ""));
      REQUIRE_FALSE(error);
      CHECK(read == 200);
      CHECK(session->ids() == expected);
    }
  }

  TEST_CASE("a second turn goes on from the first") {
    const std::string folder = any_model();
    const Span all{0, layers_of(folder)};
    const auto heads = start_nodes(folder, {all}, {"--head"});
    const auto remote = DistributedModel::open(
        {.folder = weightless_copy(folder), .peers = addresses(heads), .remote_head = true});
    const auto local = DistributedModel::open({.folder = folder, .local = true, .threads = 1});
    REQUIRE(remote);
    REQUIRE(local);
    auto there = remote->open_session();
    auto here = local->open_session();
    for (const char* prompt : {kStoryPrompt, " and then"}) {
      for (const Token& token : there->generate(prompt, sampled(20))) (void)token;
      for (const Token& token : here->generate(prompt, sampled(20))) (void)token;
    }
    CHECK(there->ids() == here->ids());
  }

  TEST_CASE("without a peer that offers a head the client is told so") {
    const std::string folder = any_model();
    const auto nodes = start_nodes(folder, {{0, layers_of(folder)}});
    const auto model = DistributedModel::open(
        {.folder = weightless_copy(folder), .peers = addresses(nodes), .remote_head = true});
    REQUIRE_FALSE(model);
    CHECK(model.error().code == Errc::head_unavailable);
  }
}

}  // namespace farmesh::test
