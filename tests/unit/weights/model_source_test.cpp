// Models fetched from a real server on loopback, a right one and many that are wrong.
#include "weights/model_source.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "model/manifest.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "model/synth.hpp"
#include "support/temp_dir.hpp"
#include "support/test_hub.hpp"
#include "weights/download.hpp"

namespace farmesh::weights {
namespace {

using namespace std::string_view_literals;

using farmesh::test::HubAnswer;
using farmesh::test::HubRequest;
using farmesh::test::TempDir;
using farmesh::test::TestHub;

constexpr std::uint64_t kPieceBytes = 16'384;

/// A model of two layers in several weight files, with a manifest or without.
struct Published {
  explicit Published(bool manifest) {
    model::SynthOptions options;
    options.dtype = DType::f32;
    options.shard_bytes = 100'000;
    REQUIRE(model::write_synthetic_model(folder.path(), options));
    hash = *model::model_hash(folder.path());
    files = *model::weight_files(folder.path());
    REQUIRE(files.size() > 1);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      all_bytes += entry.file_size();
    }
    if (!manifest) return;
    const auto made = model::make_manifest(folder.path(), {.piece_bytes = kPieceBytes});
    REQUIRE(made);
    folder.write(model::kManifestName, made->encode());
  }

  TempDir folder;
  ModelHash hash;
  std::vector<std::string> files;  // of weights
  std::uint64_t all_bytes = 0;
};

WeightsOptions options_of(const TestHub& hub, const TempDir& cache) {
  WeightsOptions options;
  options.hub = hub.url();
  options.cache_dir = cache.path();
  options.token = "hf_secret";
  return options;
}

Result<std::shared_ptr<ModelSource>> open(const TestHub& hub, const TempDir& cache) {
  return open_source(TestHub::kModel, options_of(hub, cache), {}, {});
}

Result<void> fetch(const TestHub& hub, const TempDir& cache, Span layers, bool head) {
  const auto source = open(hub, cache);
  return source ? (*source)->fetch(layers, head) : source.error();
}

/// The tensors of these layers are in `folder` as they are in the model that was published.
void check_equal(const std::filesystem::path& folder, const Published& published, Span layers,
                 bool head) {
  const auto had = model::ModelFolder::open(published.folder.path());
  const auto got = model::ModelFolder::open(folder);
  REQUIRE(had);
  REQUIRE(got);
  for (const model::TensorSpec& spec : model::required_tensors((*had)->config(), layers, head)) {
    INFO(spec.name);
    const auto left = (*had)->find(spec.name);
    const auto right = (*got)->find(spec.name);
    REQUIRE(left);
    REQUIRE(right);
    CHECK(std::equal(left->bytes.begin(), left->bytes.end(), right->bytes.begin(),
                     right->bytes.end()));
  }
}

/// What fetching one layer and the head comes to when the hub's answers are twisted so.
Errc outcome(bool manifest, TestHub::Twist twist) {
  const Published published(manifest);
  const TempDir cache;
  const TestHub hub(published.folder.path(), std::move(twist));
  const Result<void> fetched = fetch(hub, cache, {0, 1}, true);
  if (!fetched) MESSAGE(fetched.error().to_string());
  return fetched ? Errc::ok : fetched.error().code;
}

void set_header(HubAnswer& answer, const std::string& name, const std::string& value) {
  std::erase_if(answer.headers, [&](const auto& header) { return header.first == name; });
  answer.headers.emplace_back(name, value);
}

bool is_weights(const HubRequest& request) { return request.file.ends_with(".safetensors"); }

}  // namespace

TEST_SUITE("weights/model_source") {
  TEST_CASE("an id is ORG/NAME, and a folder of that name wins") {
    CHECK(is_model_id("meta-llama/Llama-2-7b-chat-hf"));
    CHECK(is_model_id("a/b.c_d"));
    for (const char* text :
         {"", "a", "a/", "/b", "a/b/c", "./b", "../b", "-a/b", "a b/c", "/tmp"}) {
      INFO(text);
      CHECK_FALSE(is_model_id(text));
    }
    const TempDir folder;
    std::filesystem::create_directories(folder.path() / "a" / "b");
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path());
    CHECK_FALSE(is_model_id("a/b"));
    std::filesystem::current_path(before);
  }

  TEST_CASE("only what holds the layers at hand is fetched, proven and the same") {
    const Published published(true);
    const TempDir cache;
    TestHub hub(published.folder.path());
    const auto source = open(hub, cache);
    REQUIRE_MESSAGE(source, source.error().to_string());
    CHECK((*source)->verified());
    CHECK(*(*source)->hash() == published.hash);
    hub.forget();
    REQUIRE((*source)->fetch({1, 2}, false));
    check_equal((*source)->folder(), published, {1, 2}, false);
    const std::uint64_t share = hub.bytes_sent();
    CHECK(share > 0);
    CHECK(share < published.all_bytes * 2 / 3);
    hub.forget();
    REQUIRE((*source)->fetch({1, 2}, false));
    CHECK(hub.requests().empty());
    REQUIRE((*source)->fetch({0, 2}, true));
    check_equal((*source)->folder(), published, {0, 2}, true);
    CHECK(share + hub.bytes_sent() < published.all_bytes + 2 * kPieceBytes);
    for (const HubRequest& request : hub.requests()) {
      CHECK(request.authorization == "Bearer hf_secret");
    }
  }

  TEST_CASE("progress goes from what was there to the whole") {
    const Published published(true);
    const TempDir cache;
    const TestHub hub(published.folder.path());
    WeightsOptions options = options_of(hub, cache);
    DownloadProgress last;
    options.on_download = [&](const DownloadProgress& now) {
      CHECK(now.done_bytes >= last.done_bytes);
      last = now;
    };
    const auto source = open_source(TestHub::kModel, options, {}, {});
    REQUIRE(source);
    REQUIRE((*source)->fetch({0, 2}, true));
    CHECK(last.all_bytes > 100'000);
    CHECK(last.done_bytes == last.all_bytes);
  }

  TEST_CASE("without a manifest the bytes are unverified, and the ETags stand for the hash") {
    const Published published(false);
    const TempDir cache, other_cache, third_cache;
    const TestHub hub(published.folder.path());
    const auto source = open(hub, cache);
    REQUIRE_MESSAGE(source, source.error().to_string());
    CHECK_FALSE((*source)->verified());
    REQUIRE((*source)->fetch({0, 1}, true));
    check_equal((*source)->folder(), published, {0, 1}, true);
    const auto other = open(hub, other_cache);
    REQUIRE(other);
    CHECK(*(*other)->hash() == *(*source)->hash());
    CHECK_FALSE(*(*source)->hash() == published.hash);

    WeightsOptions told = options_of(hub, cache);
    told.model_hash = model::to_hex(published.hash);
    const auto knowing = open_source(TestHub::kModel, told, {}, {});
    REQUIRE(knowing);
    CHECK(*(*knowing)->hash() == published.hash);

    const TestHub bare(published.folder.path(), [](const HubRequest&, HubAnswer& answer) {
      std::erase_if(answer.headers, [](const auto& header) { return header.first == "ETag"; });
    });
    const auto unknown = open(bare, third_cache);
    REQUIRE(unknown);
    CHECK((*unknown)->hash().error().code == Errc::hash_unknown);
  }

  TEST_CASE("a manifest of another model than the hash that was told is refused") {
    const Published published(true);
    const TempDir cache;
    const TestHub hub(published.folder.path());
    WeightsOptions options = options_of(hub, cache);
    options.model_hash = std::string(64, 'a');
    CHECK(open_source(TestHub::kModel, options, {}, {}).error().code == Errc::weights_mismatch);
    options.model_hash = "short";
    CHECK(open_source(TestHub::kModel, options, {}, {}).error().code == Errc::config_invalid);
    options.model_hash.clear();
    options.hub = "ftp://example.org";
    CHECK(open_source(TestHub::kModel, options, {}, {}).error().code == Errc::config_invalid);
  }

  TEST_CASE("what is in the cache serves without the hub") {
    const Published published(true);
    const TempDir cache;
    auto hub = std::make_unique<TestHub>(published.folder.path());
    const WeightsOptions options = options_of(*hub, cache);
    REQUIRE(fetch(*hub, cache, {0, 1}, false));
    hub.reset();
    const auto source = open_source(TestHub::kModel, options, {}, {});
    REQUIRE_MESSAGE(source, source.error().to_string());
    CHECK((*source)->verified());
    CHECK(*(*source)->hash() == published.hash);
    CHECK((*source)->fetch({0, 1}, false));
  }

  TEST_CASE("connections that break off in mid-body are gone on with") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request)) answer.sent_bytes = 3 * kPieceBytes / 2;
          }) == Errc::ok);
  }

  TEST_CASE("a second start fetches what the first had not") {
    const Published published(true);
    const TempDir cache;
    std::atomic<bool> ill = true;
    TestHub hub(published.folder.path(), [&](const HubRequest& request, HubAnswer& answer) {
      const bool later = request.file != published.files.front();
      if (ill && is_weights(request) && request.begin > 0 && later) answer.status = 404;
    });
    CHECK_FALSE(fetch(hub, cache, {0, 2}, true));
    const std::uint64_t first = hub.bytes_sent();
    CHECK(first > 2 * kPieceBytes);
    ill = false;
    hub.forget();
    REQUIRE(fetch(hub, cache, {0, 2}, true));
    check_equal((*open(hub, cache))->folder(), published, {0, 2}, true);
    CHECK(first + hub.bytes_sent() < published.all_bytes + 6 * kPieceBytes);
  }

  TEST_CASE("several that fetch at once into one cache fetch everything once") {
    const Published published(true);
    const TempDir cache;
    TestHub hub(published.folder.path());
    std::vector<std::future<Errc>> fetches;
    for (int i = 0; i < 4; ++i) {
      fetches.push_back(std::async(std::launch::async, [&] {
        const Result<void> fetched = fetch(hub, cache, {0, 2}, true);
        return fetched ? Errc::ok : fetched.error().code;
      }));
    }
    for (auto& each : fetches) CHECK(each.get() == Errc::ok);
    check_equal((*open(hub, cache))->folder(), published, {0, 2}, true);
    std::uint64_t weights = 0;
    for (const HubRequest& request : hub.requests()) {
      if (is_weights(request)) weights += request.end - request.begin;
    }
    CHECK(weights < published.all_bytes);
  }

  TEST_CASE("a redirect to another host is followed, without the token") {
    const Published published(true);
    const TempDir cache;
    const TestHub store(published.folder.path());
    const TestHub hub(published.folder.path(), [&](const HubRequest& request, HubAnswer& answer) {
      if (!is_weights(request)) return;
      answer = {};
      answer.status = 302;
      answer.headers = {{"Location", store.url() + request.path}, {"ETag", "\"of the hub\""}};
    });
    REQUIRE(fetch(hub, cache, {0, 2}, true));
    CHECK(store.requests().size() >= 2);
    for (const HubRequest& request : store.requests()) CHECK(request.authorization.empty());
    for (const HubRequest& request : hub.requests()) CHECK_FALSE(request.authorization.empty());
  }
}

TEST_SUITE("weights/bad_hub") {
  TEST_CASE("redirects without end") {
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            if (!is_weights(request)) return;
            answer.status = 302;
            answer.headers = {{"Location", request.path}};
          }) == Errc::bad_http);
  }

  TEST_CASE("a size that is not the manifest's") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (!is_weights(request)) return;
            const std::string last = std::to_string(request.end - 1);
            const std::string range = "bytes " + std::to_string(request.begin) + "-" + last;
            set_header(answer, "Content-Range", range + "/99999999");
          }) == Errc::hub_changed);
  }

  TEST_CASE("a size that no file can have") {
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request)) {
              set_header(answer, "Content-Range", "bytes 0-0/9000000000000000000");
            }
          }) == Errc::model_malformed);
  }

  TEST_CASE("wrong bytes, against a manifest") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request) && !answer.body.empty()) answer.body.back() ^= 1;
          }) == Errc::weights_damaged);
  }

  TEST_CASE("a damaged manifest") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (request.file == model::kManifestName) answer.body[answer.body.size() / 2] ^= 1;
          }) != Errc::ok);
  }

  TEST_CASE("the whole file for a range of it") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request)) answer.status = 200;
          }) == Errc::bad_http);
  }

  TEST_CASE("another range than asked for, and more than that") {
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request)) set_header(answer, "Content-Range", "bytes 1-9/100000");
          }) == Errc::bad_http);
    CHECK(outcome(true, [](const HubRequest& request, HubAnswer& answer) {
            if (!is_weights(request)) return;
            answer.body += "more";
            answer.told_length = answer.body.size();
          }) == Errc::bad_http);
  }

  TEST_CASE("another ETag in mid-way") {
    auto count = std::make_shared<std::atomic<int>>(0);
    CHECK(outcome(false, [count](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request)) set_header(answer, "ETag", std::to_string(++*count));
          }) == Errc::hub_changed);
  }

  TEST_CASE("no such model, a token that is wanted, and refusals") {
    const auto always = [](int status) {
      return outcome(false, [status](const HubRequest&, HubAnswer& answer) {
        answer.status = status;
        answer.body.clear();
        answer.told_length = 0;
      });
    };
    CHECK(always(404) == Errc::model_not_found);
    CHECK(always(401) == Errc::hub_refused);
    CHECK(always(403) == Errc::hub_refused);
    CHECK(always(410) == Errc::hub_refused);
    CHECK(always(503) == Errc::busy);
  }

  TEST_CASE("a header that points outside its file, and an index that points outside the folder") {
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            if (is_weights(request) && request.begin == 0 && answer.body.size() > 8) {
              answer.body[6] = 1;  // a header of 2^48 bytes
            }
          }) == Errc::model_malformed);
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            if (request.file != "model.safetensors.index.json") return;
            answer.body = R"({"weight_map":{"model.norm.weight":"../config.json"}})";
            answer.told_length = answer.body.size();
          }) == Errc::model_malformed);
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            const std::size_t at = answer.body.find("data_offsets");
            if (is_weights(request) && at != std::string::npos) {
              answer.body.replace(answer.body.find('[', at), 3, "[9,");
            }
          }) == Errc::model_malformed);
  }

  TEST_CASE("a config without end") {
    CHECK(outcome(false, [](const HubRequest& request, HubAnswer& answer) {
            if (request.file != "config.json") return;
            answer.body.assign(model::kMaxConfigBytes + 1, ' ');
            answer.told_length = answer.body.size();
          }) == Errc::frame_too_large);
  }
}

TEST_SUITE("weights/download") {
  TEST_CASE("a hub that sends nothing new is given up after some tries, and a full disk at once") {
    const Published published(true);
    const TempDir cache;
    const std::string& name = published.files.front();
    TestHub hub(published.folder.path(),
                [](const HubRequest&, HubAnswer& answer) { answer.sent_bytes = 7; });
    const auto manifest = model::parse_manifest(
        *read_text_file(published.folder.path() / model::kManifestName, 1 << 20));
    REQUIRE(manifest);
    auto store = PieceStore::open(cache.path() / "store", manifest->piece_bytes);
    REQUIRE(store);
    REQUIRE((*store)->begin(name, manifest->find(name)->length, ""));
    auto reached = Hub::create({.url = hub.url(), .model = TestHub::kModel});
    REQUIRE(reached);

    DownloadOptions options;
    options.pause = std::chrono::milliseconds(1);
    options.connections = 1;
    const Result<void> cut = download(**reached, **store, &*manifest, {{name, 0, 2}}, options);
    CHECK(cut.error().code == Errc::connection_lost);
    CHECK(hub.requests().size() == 5);

    hub.forget();
    options.spare_bytes = UINT64_MAX / 2;
    const Result<void> full = download(**reached, **store, &*manifest, {{name, 0, 2}}, options);
    CHECK(full.error().code == Errc::disk_full);
    CHECK(hub.requests().empty());
  }

  TEST_CASE("what is lacking is told once, in runs") {
    const TempDir cache;
    auto store = PieceStore::open(cache.path() / "store", 4);
    REQUIRE(store);
    REQUIRE((*store)->begin("a", 40, ""));
    REQUIRE((*store)->write("a", 3, as_view("0123"sv)));
    const auto runs = missing(**store, {{"a", 2, 5}, {"a", 4, 6}, {"a", 9, 10}});
    REQUIRE(runs.size() == 3);
    CHECK(runs[0].first == 2);
    CHECK(runs[0].end == 3);
    CHECK(runs[1].first == 4);
    CHECK(runs[1].end == 6);
    CHECK(runs[2].first == 9);
  }
}

}  // namespace farmesh::weights
