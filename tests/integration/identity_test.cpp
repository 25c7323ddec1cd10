// Node keys, addresses that name their node, and private meshes, as the program shows them.
#include <regex>
#include <string>

#include <doctest/doctest.h>

#include "integration/program.hpp"

namespace farmesh::test {
namespace {

// "node   9c1f…" of `key show`.
std::string id_of(const std::filesystem::path& key) {
  const Ended shown = run({"key", "show", "--key", key.string()});
  CHECK(shown.status == 0);
  std::smatch match;
  REQUIRE(std::regex_search(shown.output, match, std::regex("node +([0-9a-f]{64})\n")));
  return match[1];
}

Ended ask(const std::string& peer, const std::vector<std::string>& more = {}) {
  return run(std::vector<std::string>{"generate", "--model", any_model(), "--prompt", "Once",
                                      "--max-tokens", "2", "--peer", peer} +
             more);
}

bool says(const Ended& ended, const std::string& word) {
  return ended.errors.find(word) != std::string::npos;
}

Span all_layers() { return {0, layers_of(any_model())}; }

}  // namespace

TEST_SUITE("integration/identity") {
  TEST_CASE("a node is known by its key, and a stranger at its address is refused by name") {
    const auto key = scratch() / "identity" / "node.key";
    const std::string id = id_of(key);
    CHECK(id_of(key) == id);
    const auto nodes = start_nodes(any_model(), {all_layers()}, {"--key", key.string()});
    const std::string address = nodes[0].address();
    CHECK(ask(address).status == 0);
    CHECK(ask(address + "/p2p/" + id).status == 0);

    const std::string other = id_of(scratch() / "identity" / "other.key");
    const Ended refused = ask(address + "/p2p/" + other);
    CHECK(refused.status == 4);
    CHECK(says(refused, "identity_mismatch"));
    CHECK(says(refused, other.substr(0, 12)));
    const Ended foreign = ask(address + "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
    CHECK(foreign.status == 4);
    CHECK(says(foreign, "libp2p"));
  }

  TEST_CASE("a private mesh serves those who have its token, and tells others that it is one") {
    const auto folder = scratch() / "private";
    const std::string mesh = (folder / "mesh.key").string();
    const auto invite = [&](const std::string& mesh_key, const std::string& name) {
      const std::string out = (folder / name).string();
      CHECK(run({"key", "invite", "--mesh-key", mesh_key, "--mesh-name", "lab", "--out", out})
                .status == 0);
      return out;
    };
    const std::string token = invite(mesh, "token");
    const std::string foreign = invite((folder / "other.key").string(), "foreign");
    CHECK(run({"key", "invite", "--mesh-key", mesh, "--out", token}).status == 2);

    const auto nodes = start_nodes(any_model(), {all_layers()}, {"--join-token-file", token});
    const std::string address = nodes[0].address();
    CHECK(ask(address, {"--join-token-file", token}).status == 0);
    CHECK(ask(address, {"--mesh-key", mesh}).status == 0);

    const Ended without = ask(address);
    CHECK(without.status == 4);
    CHECK(says(without, "join_refused"));
    CHECK(says(without, "\"lab\" is private"));
    const Ended wrong = ask(address, {"--join-token-file", foreign});
    CHECK(wrong.status == 4);
    CHECK(says(wrong, "another mesh"));
    const Ended secret = ask(address, {"--join-token-file", mesh});
    CHECK(secret.status == 2);
  }
}

}  // namespace farmesh::test
