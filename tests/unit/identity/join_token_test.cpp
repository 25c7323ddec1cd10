#include "identity/join_token.hpp"

#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "base/digest.hpp"
#include "support/temp_dir.hpp"

using namespace farmesh;
using namespace farmesh::identity;

namespace {

using namespace std::chrono_literals;

const std::chrono::sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

// A mesh with a member that judges, and a node that wants in.
struct Mesh {
  NodeKey key = NodeKey::generate();
  NodeKey node = NodeKey::generate();
  Membership member{token("home"), NodeKey::generate().id()};

  JoinToken token(std::string name, std::chrono::seconds left = 1h) const {
    return *JoinToken::make(key, std::move(name), kNow + left);
  }

  std::string refusal(const std::vector<std::uint8_t>& pass,
                      std::chrono::sys_seconds now = kNow) const {
    const Result<void> admitted = member.admit(pass, node.id(), now);
    if (admitted) return {};
    CHECK(admitted.error().code == Errc::join_refused);
    return admitted.error().detail;
  }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("identity/join_token") {
  TEST_CASE("a node with a token of the mesh is let in") {
    const Mesh mesh;
    CHECK(mesh.refusal(mesh.token("home").pass_for(mesh.node.id())).empty());
  }

  TEST_CASE("a token survives being written and read") {
    const Mesh mesh;
    const JoinToken token = mesh.token("a mesh with a longer name");
    const Result<JoinToken> read = JoinToken::parse(token.to_text() + "\n");
    REQUIRE(read);
    CHECK(read->to_text() == token.to_text());
    CHECK(read->invitation().mesh_name == "a mesh with a longer name");
    CHECK(read->invitation().expires == kNow + 1h);
    CHECK(mesh.refusal(read->pass_for(mesh.node.id())).empty());
  }

  TEST_CASE("without a token nobody is let in") {
    const Mesh mesh;
    CHECK(has(mesh.refusal({}), "\"home\" is private"));
  }

  TEST_CASE("an expired token is refused, with some patience for clocks") {
    const Mesh mesh;
    const auto pass = mesh.token("home").pass_for(mesh.node.id());
    CHECK(mesh.refusal(pass, kNow + 1h + 59s).empty());
    CHECK(has(mesh.refusal(pass, kNow + 1h + 61s), "expired"));
  }

  TEST_CASE("a token for another mesh is refused, though that has the same name") {
    const Mesh mesh;
    const Mesh other;
    CHECK(has(mesh.refusal(other.token("home").pass_for(mesh.node.id())), "another mesh"));
  }

  TEST_CASE("a pass that another node has shown is of no use") {
    const Mesh mesh;
    const NodeKey victim = NodeKey::generate();
    CHECK(has(mesh.refusal(mesh.token("home").pass_for(victim.id())), "does not hold it"));
  }

  TEST_CASE("a pass with any byte changed lets nobody in") {
    const Mesh mesh;
    const auto pass = mesh.token("home").pass_for(mesh.node.id());
    for (std::size_t i = 0; i < pass.size(); ++i) {
      CAPTURE(i);
      auto forged = pass;
      forged[i] ^= 0x20;
      CHECK_FALSE(mesh.refusal(forged).empty());
    }
  }

  TEST_CASE("a pass that is cut short or goes on lets nobody in") {
    const Mesh mesh;
    const auto pass = mesh.token("home").pass_for(mesh.node.id());
    for (std::size_t size = 1; size < pass.size(); ++size) {
      CHECK_FALSE(mesh.refusal({pass.begin(), pass.begin() + std::ptrdiff_t(size)}).empty());
    }
    auto longer = pass;
    longer.push_back(0);
    CHECK_FALSE(mesh.refusal(longer).empty());
  }

  TEST_CASE("text that is no token, or a changed one, is refused") {
    const Mesh mesh;
    const std::string text = mesh.token("home").to_text();
    const auto refused = [](const std::string& what) {
      const Result<JoinToken> token = JoinToken::parse(what);
      return !token && token.error().code == Errc::config_invalid;
    };
    CHECK(refused(""));
    CHECK(refused("farmesh-join-"));
    CHECK(refused("farmesh-join-zz"));
    CHECK(refused(text.substr(1)));
    CHECK(refused(text + "00"));
    CHECK(refused(text.substr(0, text.size() - 2)));
    CHECK(refused("farmesh-join-" + std::string(100'000, '0')));
    for (std::size_t i = 13; i < text.size(); i += 7) {
      std::string changed = text;
      changed[i] = changed[i] == '0' ? '1' : '0';
      CAPTURE(i);
      CHECK(refused(changed));
    }
  }

  TEST_CASE("a mesh needs a printable name of a bounded length") {
    const NodeKey key = NodeKey::generate();
    for (const std::string& name : {std::string(), std::string(65, 'x'), std::string("a\nb")}) {
      CHECK(JoinToken::make(key, name, kNow).error().code == Errc::invalid_argument);
    }
    CHECK(JoinToken::make(key, std::string(64, 'x'), kNow));
  }

  TEST_CASE("a pass fits the field that carries it") {
    const Mesh mesh;
    CHECK(mesh.token(std::string(64, 'x')).pass_for(mesh.node.id()).size() <= kMaxPassBytes);
  }

  TEST_CASE("a token is read from a file that is its owner's alone") {
    const Mesh mesh;
    const test::TempDir folder;
    const auto file = folder.write("token", mesh.token("home").to_text());
    CHECK_FALSE(JoinToken::load(file));
    REQUIRE(::chmod(file.c_str(), 0600) == 0);
    CHECK(JoinToken::load(file));
  }
}
