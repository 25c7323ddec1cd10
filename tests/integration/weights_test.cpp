// Nodes and a client that know a model by its id alone, and fetch it from a hub.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "base/mapped_file.hpp"
#include "integration/program.hpp"
#include "model/manifest.hpp"
#include "model/model_folder.hpp"
#include "support/temp_dir.hpp"
#include "support/test_hub.hpp"
#include "weights/piece_store.hpp"

namespace farmesh::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kWeights = "model.safetensors";

/// Of the tensors of these layers.
std::uint64_t tensor_bytes(const std::filesystem::path& model, Span layers, bool head) {
  const auto opened = model::ModelFolder::open(model);
  REQUIRE(opened);
  std::uint64_t bytes = 0;
  for (const model::TensorSpec& spec : model::required_tensors((*opened)->config(), layers, head)) {
    const auto place = (*opened)->place(spec.name);
    REQUIRE(place);
    bytes += place->end - place->begin;
  }
  return bytes;
}

/// The demo's model as a hub has it, with its manifest.
struct Published {
  Published() {
    for (const auto& entry : std::filesystem::directory_iterator(any_model())) {
      if (entry.is_regular_file()) std::filesystem::copy(entry.path(), folder.path());
    }
    const auto manifest = model::make_manifest(folder.path(), {});
    REQUIRE(manifest);
    folder.write(model::kManifestName, manifest->encode());
    piece_bytes = manifest->piece_bytes;
  }

  std::uint64_t bytes_of(Span layers, bool head) const {
    return tensor_bytes(folder.path(), layers, head);
  }
  std::uint64_t text_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      if (entry.path().filename() != kWeights) bytes += entry.file_size();
    }
    return bytes;
  }

  TempDir folder;
  std::uint64_t piece_bytes = 0;
};

/// What the programs that are started meanwhile keep as their cache.
class CacheOf {
 public:
  explicit CacheOf(const TempDir& folder) {
    ::setenv("FARMESH_CACHE_DIR", folder.path().c_str(), 1);
  }
  ~CacheOf() { ::unsetenv("FARMESH_CACHE_DIR"); }
};

std::uint64_t fetched(const TestHub& hub) {
  std::uint64_t bytes = 0;
  for (const HubRequest& request : hub.requests()) {
    if (request.file == kWeights && request.ranged) bytes += request.end - request.begin;
  }
  return bytes;
}

/// Pieces of the weights that a process which is killed now would find again.
std::size_t kept_pieces(const TempDir& cache) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cache.path())) {
    if (entry.path().filename() != "state") continue;
    const auto text = read_text_file(entry.path(), 1 << 20);
    const auto state = text ? weights::parse_state(*text) : std::nullopt;
    if (!state || !state->files.contains(kWeights)) return 0;
    const std::vector<bool>& have = state->files.at(kWeights).have;
    return static_cast<std::size_t>(std::count(have.begin(), have.end(), true));
  }
  return 0;
}

/// Gives the demo's weights to whoever asks, once it has said so.
cli::ChildProcess publish(const std::string& manifest, const std::vector<std::string>& more) {
  auto publisher = cli::ChildProcess::start(
      std::vector<std::string>{kProgram, "model", "publish", any_model(), "--out", manifest} +
      more);
  REQUIRE(publisher);
  std::optional<std::string> line;
  do {
    line = publisher->read_line(1min);
    REQUIRE(line);
  } while (!line->starts_with("seeding at port "));
  return *std::move(publisher);
}

}  // namespace

TEST_SUITE("integration/weights") {
  TEST_CASE("nodes that know a model by its id fetch their layers alone, and tell its story") {
    const Published published;
    TestHub hub(published.folder.path());
    const std::vector<std::string> at_hub{"--hub", hub.url()};
    const std::uint32_t layers = layers_of(any_model());
    TempDir caches[3];
    std::vector<cli::NodeProcess> nodes;
    const std::vector<Span> spans = cli::even_split(layers, 3);
    for (std::size_t i = 0; i < spans.size(); ++i) {
      hub.forget();
      const CacheOf cache(caches[i]);
      nodes.push_back(std::move(start_nodes(TestHub::kModel, {spans[i]}, at_hub).front()));
      const std::uint64_t share = published.bytes_of(spans[i], false);
      MESSAGE("layers ", spans[i].begin, ":", spans[i].end, " of ", share, " bytes: fetched ",
              fetched(hub));
      CHECK(fetched(hub) >= share);
      // The first and last piece of a run may be another tensor's too; and there is the header.
      CHECK(fetched(hub) < share + 8 * published.piece_bytes);
      CHECK(hub.bytes_sent() < share + 8 * published.piece_bytes + 2 * published.text_bytes());
    }

    const std::vector<std::string> story{
        "--prompt", kStoryPrompt, "--ignore-eos", "--temperature", "0", "--max-tokens", "24"};
    const TempDir client_cache;
    const CacheOf cache(client_cache);
    hub.forget();
    const std::vector<std::string> by_id = std::vector<std::string>{"--model", TestHub::kModel};
    const auto told = generate(by_id + at_hub + peer_flags(nodes) + story);
    INFO(told.errors);
    REQUIRE(told.status == 0);
    const auto alone =
        generate(std::vector<std::string>{"--model", any_model(), "--local"} + story);
    REQUIRE(alone.status == 0);
    CHECK(told.ids() == alone.ids());
    CHECK(fetched(hub) < published.bytes_of({}, true) + 8 * published.piece_bytes);
    CHECK(told.last.at("hops").size() == 3);
    // From its folder too: the manifest's hash is the folder's.
    const auto mixed =
        generate(std::vector<std::string>{"--model", any_model()} + peer_flags(nodes) + story);
    INFO(mixed.errors);
    REQUIRE(mixed.status == 0);
    CHECK(mixed.ids() == alone.ids());
  }

  TEST_CASE("a node that is killed in mid-download goes on where it was") {
    const Published published;
    TestHub hub(published.folder.path(), [](const HubRequest& request, HubAnswer& answer) {
      if (request.file != kWeights || answer.body.size() < 500'000) return;
      answer.sent_bytes = answer.body.size() / 2;
      answer.held = true;
    });
    const Span all{0, layers_of(any_model())};
    const TempDir folder;
    const CacheOf cache(folder);
    const std::vector<std::string> flags{"--hub", hub.url(), "--threads", "1"};
    const cli::NodeArguments arguments{
        .program = kProgram, .model = TestHub::kModel, .layers = all, .more = flags};
    {
      Result<cli::NodeProcess> node = cli::NodeProcess::start(arguments);
      REQUIRE(node);
      const auto deadline = std::chrono::steady_clock::now() + 1min;
      const std::uint64_t third = published.bytes_of(all, false) / published.piece_bytes / 3;
      while (kept_pieces(folder) < third && std::chrono::steady_clock::now() < deadline) {
        ::poll(nullptr, 0, 20);
      }
      REQUIRE(kept_pieces(folder) >= third);
      node->process().signal(SIGKILL);
      node->process().wait();
    }
    const std::size_t kept = kept_pieces(folder);
    hub.release();
    hub.forget();
    Result<cli::NodeProcess> node = cli::NodeProcess::start(arguments);
    REQUIRE(node);
    const Result<void> listening = node->await_listening(1min);
    INFO((listening ? "" : listening.error().to_string()));
    REQUIRE(listening);
    const std::uint64_t share = published.bytes_of(all, false);
    MESSAGE("kept ", kept, " pieces, fetched ", fetched(hub), " of ", share, " bytes anew");
    CHECK(fetched(hub) + kept * published.piece_bytes < share + 8 * published.piece_bytes);
  }

  TEST_CASE("what is given to others is bounded, and a node that gives nothing is no source") {
    const TempDir scratch;
    const std::string manifest = scratch.path() / "demo.torrent";
    const std::uint16_t port = free_port();
    const Span all{0, layers_of(any_model())};
    const auto entrance = start_nodes(any_model(), {{0, 1}}, {"--dht-port", std::to_string(port)});
    const std::vector<std::string> mesh{"--bootstrap", "127.0.0.1:" + std::to_string(port)};
    constexpr double kBytesPerSecond = 400'000;
    auto publisher = publish(
        manifest,
        mesh + std::vector<std::string>{"--seed-mbps", std::to_string(kBytesPerSecond * 8 / 1e6)});

    const std::string nobody = "http://127.0.0.1:" + std::to_string(free_port());
    const std::vector<std::string> flags =
        std::vector<std::string>{"--manifest", manifest, "--hub",       nobody,
                                 "--dht-port", "0",      "--seed-mbps", "0"} +
        mesh;
    const TempDir first_cache, second_cache;
    const auto began = std::chrono::steady_clock::now();
    std::vector<cli::NodeProcess> nodes;
    {
      const CacheOf cache(first_cache);
      nodes.push_back(std::move(start_nodes(TestHub::kModel, {{1, all.end}}, flags).front()));
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const auto share = static_cast<double>(tensor_bytes(any_model(), {1, all.end}, false));
    MESSAGE(share, " bytes in ", took.count(), " s");
    CHECK(took.count() > 0.5 * share / kBytesPerSecond);

    publisher.signal(SIGTERM);
    CHECK(publisher.wait() == 0);
    const CacheOf cache(second_cache);
    auto second = cli::NodeProcess::start(
        {.program = kProgram, .model = TestHub::kModel, .layers = {2, all.end}, .more = flags});
    REQUIRE(second);
    CHECK_FALSE(second->await_listening(2min));
    CHECK(kept_pieces(second_cache) == 0);
  }

  TEST_CASE("nodes take their layers from who publishes them and from each other, without a hub") {
    const TempDir scratch;
    const std::string manifest = scratch.path() / "demo.torrent";
    const std::uint16_t port = free_port();
    const Span all{0, layers_of(any_model())};
    // An entrance, whose own layer comes from a folder.
    const auto entrance = start_nodes(any_model(), {{0, 1}}, {"--dht-port", std::to_string(port)});
    const std::vector<std::string> mesh{"--bootstrap", "127.0.0.1:" + std::to_string(port)};
    auto publisher = publish(manifest, mesh);

    const std::string nobody = "http://127.0.0.1:" + std::to_string(free_port());
    const std::vector<std::string> flags =
        std::vector<std::string>{"--manifest", manifest, "--hub", nobody, "--dht-port", "0"} + mesh;
    const auto published = model::parse_manifest(*read_text_file(manifest, 1 << 20));
    REQUIRE(published);
    const std::uint64_t piece_bytes = published->piece_bytes;
    const TempDir first_cache, second_cache;
    std::vector<cli::NodeProcess> nodes;
    {
      const CacheOf cache(first_cache);
      nodes.push_back(std::move(start_nodes(TestHub::kModel, {{1, all.end}}, flags).front()));
    }
    const std::uint64_t share = tensor_bytes(any_model(), {1, all.end}, false);
    const std::size_t kept = kept_pieces(first_cache);
    MESSAGE("a share of ", share, " bytes came in ", kept, " pieces of ", piece_bytes);
    CHECK(kept * piece_bytes >= share);
    CHECK(kept * piece_bytes < share + 8 * piece_bytes);

    // The publisher leaves; who wants some of the same layers has them from the first.
    publisher.signal(SIGTERM);
    CHECK(publisher.wait() == 0);
    CHECK(publisher.errors().find("gave ") != std::string::npos);
    {
      const CacheOf cache(second_cache);
      nodes.push_back(std::move(start_nodes(TestHub::kModel, {{2, all.end}}, flags).front()));
    }
    CHECK(kept_pieces(second_cache) > 0);
    const std::vector<std::string> story{"--model",       any_model(), "--prompt",     kStoryPrompt,
                                         "--temperature", "0",         "--max-tokens", "24"};
    const auto told = generate(story + peer_flags(entrance) + peer_flags(nodes));
    INFO(told.errors);
    REQUIRE(told.status == 0);
    CHECK(told.ids() == generate(story + std::vector<std::string>{"--local"}).ids());
  }

  TEST_CASE(
      "the hub's addresses in a manifest are web seeds: pieces come from there as from a peer") {
    const Published published;
    const TestHub hub(published.folder.path());
    const TempDir scratch;
    const auto manifest = model::make_manifest(
        published.folder.path(), {.web_seeds = {hub.url() + "/" + TestHub::kModel + "/resolve/"}});
    REQUIRE(manifest);
    scratch.write("demo.torrent", manifest->encode());
    const std::uint16_t port = free_port();
    const Span all{0, layers_of(any_model())};
    const auto entrance = start_nodes(any_model(), {{0, 1}}, {"--dht-port", std::to_string(port)});
    const TempDir folder;
    const CacheOf cache(folder);
    const auto nodes = start_nodes(TestHub::kModel, {{1, all.end}},
                                   {"--manifest", scratch.path() / "demo.torrent", "--hub",
                                    "http://127.0.0.1:" + std::to_string(free_port()), "--dht-port",
                                    "0", "--bootstrap", "127.0.0.1:" + std::to_string(port)});
    const std::uint64_t share = published.bytes_of({1, all.end}, false);
    CHECK(kept_pieces(folder) * manifest->piece_bytes >= share);
    CHECK(fetched(hub) >= share);
    CHECK(fetched(hub) < 2 * share);
    MESSAGE("a share of ", share, " bytes: fetched ", fetched(hub), " of the web seed");
  }

  TEST_CASE(
      "a model that no hub has, a hub that lies and one that is away end the program plainly") {
    const Published published;
    const TempDir folder;
    const CacheOf cache(folder);
    TestHub hub(published.folder.path(), [](const HubRequest& request, HubAnswer& answer) {
      if (request.file == kWeights && !answer.body.empty()) answer.body[0] ^= 1;
    });
    const auto node = [](const std::string& url, const std::string& model) {
      return run({"node", "--ephemeral", "--listen", "127.0.0.1:0", "--layers", "0:1", "--hub", url,
                  "--model", model});
    };
    const Ended absent = node(hub.url(), "org/none");
    CHECK(absent.status == 3);
    CHECK(absent.errors.find("model_not_found: 127.0.0.1 has no config.json of org/none") !=
          std::string::npos);
    const Ended lying = node(hub.url(), TestHub::kModel);
    CHECK(lying.status == 3);
    CHECK(lying.errors.find("weights_damaged: piece 0 of model.safetensors from 127.0.0.1") !=
          std::string::npos);
    const std::string nobody = "http://127.0.0.1:" + std::to_string(free_port());
    const Ended away = node(nobody, "org/other");
    CHECK(away.status != 0);
    CHECK(away.errors.find("connection_refused") != std::string::npos);
  }
}

}  // namespace farmesh::test
