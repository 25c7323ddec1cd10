// farmesh generate --draft-model: a small model that guesses changes no token.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cli/exit_code.hpp"
#include "integration/program.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::test {
namespace {

using Flags = std::vector<std::string>;

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return std::move(text).str();
}

/// A copy of a bf16 model whose weights are each a little off: often of one opinion with it, not
/// always.
void perturb(const std::filesystem::path& model, const std::filesystem::path& copy) {
  std::filesystem::copy(model, copy);
  std::string weights = text_of(copy / "model.safetensors");
  std::uint64_t header = 0;
  for (std::size_t i = 8; i-- > 0;) header = header << 8 | static_cast<unsigned char>(weights[i]);
  REQUIRE(8 + header < weights.size());
  std::uint32_t random = 1;
  for (std::size_t at = 8 + header; at + 1 < weights.size(); at += 2) {
    random = random * 1'664'525 + 1'013'904'223;
    weights[at] = static_cast<char>(weights[at] ^ static_cast<char>(random >> 28));  // up to 1/8
  }
  std::filesystem::permissions(copy / "model.safetensors", std::filesystem::perms::owner_all);
  std::ofstream(copy / "model.safetensors", std::ios::binary) << weights;
}

Flags flags(const std::string& model, const Flags& sampling) {
  return Flags{"--model", model,          "--prompt", "Once there was a fox", "--threads",
               "1",       "--max-tokens", "60",       "--ignore-eos"} +
         sampling;
}

const std::vector<Flags> kSamplings{{"--temperature", "0"},
                                    {"--temperature", "1", "--seed", "7", "--top-p", "0.95"}};

}  // namespace

TEST_SUITE("integration/draft") {
  TEST_CASE("with a draft model of one opinion, or of another, the tokens are those without") {
    const std::string model = any_model();
    TempDir folder;
    const std::string other = (folder.path() / "other").string();
    perturb(model, other);
    for (const Flags& sampling : kSamplings) {
      const Generated plain = generate(flags(model, sampling) + Flags{"--local"});
      INFO(plain.errors);
      REQUIRE(plain.status == 0);
      for (const std::string& draft : {model, other}) {
        const Generated drafted =
            generate(flags(model, sampling) + Flags{"--local", "--draft-model", draft});
        INFO(drafted.errors);
        REQUIRE(drafted.status == 0);
        CHECK(drafted.ids() == plain.ids());
        CHECK(drafted.last.at("text") == plain.last.at("text"));
      }
    }
  }

  TEST_CASE("a draft model here guesses for layers on peers") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, cli::even_split(layers_of(model), 2));
    for (const Flags& sampling : kSamplings) {
      const Generated plain = generate(flags(model, sampling) + peer_flags(nodes));
      const Generated drafted =
          generate(flags(model, sampling) + peer_flags(nodes) + Flags{"--draft-model", model});
      INFO(drafted.errors);
      REQUIRE(plain.status == 0);
      REQUIRE(drafted.status == 0);
      CHECK(drafted.ids() == plain.ids());
      CHECK(drafted.last.at("hops").size() == 2);
    }
  }

  TEST_CASE("a trained story that its own model guesses ahead is the reference's") {
    if (stories().empty()) return;
    const Generated drafted =
        generate({"--model", stories(), "--prompt", kStoryPrompt, "--temperature", "0",
                  "--max-tokens", "55", "--threads", "1", "--local", "--draft-model", stories()});
    INFO(drafted.errors);
    REQUIRE(drafted.status == 0);
    CHECK(drafted.ids() == story_ids());
  }

  TEST_CASE("a draft model that cannot guess for the other is refused before anything is told") {
    if (!stories().empty()) {
      const Ended other = run(
          {"generate", "--model", any_model(), "--prompt", "A fox", "--draft-model", stories()});
      CHECK(other.status == cli::kModel);
      CHECK(other.output.empty());
      CHECK(other.errors.find("another tokenizer") != std::string::npos);
    }
    const Ended absent = run(
        {"generate", "--model", any_model(), "--prompt", "A fox", "--draft-model", "/nonexistent"});
    CHECK(absent.status == cli::kModel);
    const Ended remote =
        run({"generate", "--model", any_model(), "--prompt", "A fox", "--remote-head", "--peer",
             "127.0.0.1:1", "--draft-model", any_model()});
    CHECK(remote.status == cli::kUsage);
    CHECK(remote.errors.find("draft model") != std::string::npos);
  }
}

}  // namespace farmesh::test
