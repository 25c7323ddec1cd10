// What must not work, and how it says so: exit codes and stable error names.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <signal.h>

#include "cli/exit_code.hpp"
#include "integration/program.hpp"

namespace farmesh::test {
namespace {

namespace fs = std::filesystem;

using Flags = std::vector<std::string>;

// The same model but for one bit of its last weight.
std::string altered_copy(const std::string& model) {
  const fs::path copy = scratch() / "altered";
  fs::remove_all(copy);
  fs::copy(model, copy);
  std::fstream weights(copy / "model.safetensors",
                       std::ios::in | std::ios::out | std::ios::binary | std::ios::ate);
  const auto end = weights.tellp();
  weights.seekg(end - std::streamoff(1));
  const char last = char(weights.get() ^ 1);
  weights.seekp(end - std::streamoff(1));
  weights.put(last);
  return copy;
}

Flags prompt_flags(const std::string& model) {
  return {"--model", model, "--prompt", "A fox", "--max-tokens", "8", "--threads", "1"};
}

void check_refused(const Generated& generated, int status, const std::string& error) {
  INFO(generated.errors);
  CHECK(generated.status == status);
  REQUIRE(generated.last.is_object());
  CHECK(generated.last.at("error") == error);
  CHECK(generated.errors.find(error) != std::string::npos);
}

}  // namespace

TEST_SUITE("integration/refusal") {
  TEST_CASE("a peer with other weights is refused by name, and never makes text") {
    const std::string model = any_model();
    const auto nodes = start_nodes(altered_copy(model), {{0, layers_of(model)}});
    const Generated generated = generate(prompt_flags(model) + peer_flags(nodes));
    check_refused(generated, cli::kMesh, "weights_mismatch");
    CHECK(generated.tokens.empty());
    CHECK(generated.last.at("detail").get<std::string>().find(nodes[0].address()) !=
          std::string::npos);
  }

  TEST_CASE("a peer with other weights is left out where others serve") {
    const std::string model = any_model();
    const Span all{0, layers_of(model)};
    const auto wrong = start_nodes(altered_copy(model), {all});
    const auto right = start_nodes(model, {all});
    const Generated generated =
        generate(prompt_flags(model) + peer_flags(wrong) + peer_flags(right));
    REQUIRE(generated.status == 0);
    CHECK(generated.last.at("hops")[0].at("peer") == right[0].address());
  }

  TEST_CASE("a peer of another precision is refused by its numerics class") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, {"--precision", "bf16"});
    const Generated generated =
        generate(prompt_flags(model) + Flags{"--precision", "f32"} + peer_flags(nodes));
    check_refused(generated, cli::kMesh, "numerics_mismatch");
  }

  TEST_CASE("a peer of other numerics is refused by its class, and of the same it serves") {
    const std::string model = any_model();
    const Flags fast{"--precision", "bf16", "--numerics", "fast"};
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, fast);
    const Generated mixed =
        generate(prompt_flags(model) + Flags{"--precision", "bf16"} + peer_flags(nodes));
    check_refused(mixed, cli::kMesh, "numerics_mismatch");
    const Generated alike = generate(prompt_flags(model) + fast + peer_flags(nodes));
    INFO(alike.errors);
    CHECK(alike.status == 0);
    CHECK(alike.last.at("hops").size() == 1);
  }

  TEST_CASE("what fast numerics do not do is refused by name") {
    const std::string model = any_model();
    const Flags asked = prompt_flags(model) + Flags{"--local", "--numerics", "fast"};
    const auto refused = [&](const Flags& more, int status, const char* error) {
      CAPTURE(more[0]);
      check_refused(generate(asked + more), status, error);
    };
    refused({"--precision", "int8"}, cli::kModel, "model_unsupported");
    refused({"--precision", "int4"}, cli::kModel, "model_unsupported");
    refused({"--kv", "int8"}, cli::kModel, "model_unsupported");
    refused({"--pin-threads", "0"}, cli::kUsage, "invalid_argument");
    refused({"--device", "cuda"}, cli::kUsage, "invalid_argument");
    for (const char* unknown : {"fused", "slow", ""}) {
      CHECK(run({"generate", "--model", model, "--numerics", unknown}).status == cli::kUsage);
    }
    for (const char* unknown : {"-1", "x", "1024"}) {
      CHECK(run({"node", "--model", model, "--pin-threads", unknown}).status == cli::kUsage);
    }
  }

  TEST_CASE("layers that nobody serves are named") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, 1}});
    const Generated generated = generate(prompt_flags(model) + peer_flags(nodes));
    check_refused(generated, cli::kMesh, "no_route");
  }

  TEST_CASE("a peer that is not there is named") {
    const Generated generated =
        generate(prompt_flags(any_model()) + Flags{"--peer", "127.0.0.1:1"});
    check_refused(generated, cli::kMesh, "no_route");
    CHECK(generated.last.at("detail").get<std::string>().find("127.0.0.1:1") != std::string::npos);
  }

  TEST_CASE("a prompt over the context is refused before anything is computed") {
    std::string prompt;
    for (int i = 0; i < 4'000; ++i) prompt += "many words ";
    const Generated generated =
        generate({"--model", any_model(), "--prompt", prompt, "--max-tokens", "1"});
    check_refused(generated, cli::kUsage, "context_exceeded");
  }

  TEST_CASE("peers without room for the session's cache answer with that") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, layers_of(model)}}, {"--cache-tokens", "64"});
    const Generated generated =
        generate(std::vector<std::string>{"--model", model, "--prompt", "A fox", "--max-tokens",
                                          "200", "--threads", "1"} +
                 peer_flags(nodes));
    check_refused(generated, cli::kBusy, "no_cache_space");
  }

  TEST_CASE("sampling options outside their range are refused") {
    check_refused(generate(prompt_flags(any_model()) + Flags{"--top-p", "7"}), cli::kUsage,
                  "invalid_argument");
    check_refused(generate(prompt_flags(any_model()) + Flags{"--logit-bias", "x=1"}), cli::kUsage,
                  "invalid_argument");
    check_refused(generate(prompt_flags(any_model()) + Flags{"--stop", ""}), cli::kUsage,
                  "invalid_argument");
  }

  TEST_CASE("a folder that is not there, or whose files are damaged, is a failure of the model") {
    check_refused(generate(prompt_flags((scratch() / "nothing").string())), cli::kModel,
                  "model_not_found");
    const std::string broken = altered_copy(any_model());
    std::ofstream(fs::path(broken) / "config.json") << "{ \"hidden_size\": ";
    check_refused(generate(prompt_flags(broken)), cli::kModel, "model_malformed");
    const std::string cut = altered_copy(any_model());
    fs::resize_file(fs::path(cut) / "model.safetensors", 1'000);
    check_refused(generate(prompt_flags(cut)), cli::kModel, "model_malformed");
  }

  TEST_CASE("wrong use ends with 2 and says what is wanted") {
    CHECK(run({}).status == cli::kUsage);
    CHECK(run({"fly"}).status == cli::kUsage);
    CHECK(run({"generate", "--model", any_model()}).status == cli::kUsage);
    const Ended layers = run({"node", "--model", any_model(), "--layers", "all"});
    CHECK(layers.status == cli::kUsage);
    CHECK(layers.errors.find("A:B") != std::string::npos);
    const Ended outside = run({"node", "--model", any_model(), "--layers", "0:1000"});
    CHECK(outside.status == cli::kUsage);
    CHECK(outside.errors.find("1000") != std::string::npos);
    CHECK(run({"node", "--model", any_model(), "--layers", "0:1", "--listen", "nowhere"}).status ==
          cli::kMesh);
  }

  TEST_CASE("an address that is taken is told") {
    const std::string model = any_model();
    const auto nodes = start_nodes(model, {{0, 1}});
    const Ended second =
        run({"node", "--model", model, "--layers", "0:1", "--listen", nodes[0].address()});
    CHECK(second.status == cli::kFailure);
    CHECK(second.errors.find("io_error") != std::string::npos);
  }

  TEST_CASE("an interrupt ends a generation with 130") {
    Result<cli::ChildProcess> child = cli::ChildProcess::start(
        {kProgram, "generate", "--json", "--model", any_model(), "--prompt", "A fox",
         "--max-tokens", "1000000", "--ignore-eos", "--temperature", "1"});
    REQUIRE(child);
    REQUIRE(child->read_line(std::chrono::minutes(1)));
    child->signal(SIGINT);
    const std::string output = child->read_all();
    CHECK(child->wait() == cli::kInterrupted);
  }
}

}  // namespace farmesh::test
