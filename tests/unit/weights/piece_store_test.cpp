#include "weights/piece_store.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::weights {
namespace {

using namespace std::string_view_literals;

using farmesh::test::TempDir;

std::unique_ptr<PieceStore> opened(const TempDir& folder, std::uint64_t piece_bytes = 4) {
  auto store = PieceStore::open(folder.path() / "store", piece_bytes);
  REQUIRE(store);
  return *std::move(store);
}

std::string content(const PieceStore& store, const std::string& file) {
  return *read_text_file(store.folder() / file, 1000);
}

}  // namespace

TEST_SUITE("weights/piece_store") {
  TEST_CASE("pieces lie where the file has them, and are known again after a new start") {
    const TempDir folder;
    {
      const auto store = opened(folder);
      REQUIRE(store->begin("a", 10, "\"1\""));
      CHECK(store->piece_count("a") == 3);
      CHECK(store->bytes_of("a", 2) == 2);
      REQUIRE(store->write("a", 1, as_view("4567"sv)));
      REQUIRE(store->write("a", 2, as_view("89"sv)));
      REQUIRE(store->save());
      REQUIRE(store->write("a", 0, as_view("0123"sv)));  // and is killed before it saves
    }
    const auto again = opened(folder);
    CHECK_FALSE(again->has("a", 0));
    CHECK(again->has("a", 1));
    CHECK(again->has("a", 2));
    CHECK_FALSE(again->is_whole("a"));
    REQUIRE(again->write("a", 0, as_view("0123"sv)));
    CHECK(again->is_whole("a"));
    CHECK(content(*again, "a") == "0123456789");
    CHECK(*again->read("a", 3, 6) == "345");
  }

  TEST_CASE("what has another length or ETag than what was begun is refused") {
    const TempDir folder;
    const auto store = opened(folder);
    REQUIRE(store->begin("a", 10, "\"1\""));
    CHECK(store->begin("a", 10, "\"1\""));
    CHECK(store->begin("a", 10, ""));
    CHECK(store->begin("a", 11, "\"1\"").error().code == Errc::hub_changed);
    CHECK(store->begin("a", 10, "\"2\"").error().code == Errc::hub_changed);
  }

  TEST_CASE("names that leave the folder and lengths beyond reason are refused") {
    const TempDir folder;
    const auto store = opened(folder);
    for (const char* name : {"", "..", "../a", "a/b", ".farmesh"}) {
      CHECK(store->begin(name, 10, "").error().code == Errc::model_malformed);
    }
    CHECK(store->begin("a", 1ull << 60, "").error().code == Errc::model_malformed);
    CHECK(store->begin("a", 1ull << 40, "").error().code == Errc::model_malformed);
  }

  TEST_CASE("one process writes at a time, and the next one knows what it wrote") {
    const TempDir folder;
    const auto one = opened(folder);
    const auto other = opened(folder);
    {
      const auto lock = one->lock();
      REQUIRE(lock);
      REQUIRE(one->begin("a", 4, ""));
      REQUIRE(one->write("a", 0, as_view("0123"sv)));
      REQUIRE(one->save());
      CHECK_FALSE(other->has("a", 0));
    }
    const auto lock = other->lock();
    REQUIRE(lock);
    CHECK(other->has("a", 0));
  }

  TEST_CASE("marks of a file that is gone, of another length or piece size count for nothing") {
    const TempDir folder;
    {
      const auto store = opened(folder);
      REQUIRE(store->put("a", "0123", ""));
      REQUIRE(store->put("b", "0123", ""));
      REQUIRE(store->save());
      std::filesystem::remove(store->folder() / "a");
      std::filesystem::resize_file(store->folder() / "b", 3);
    }
    CHECK_FALSE(opened(folder)->has("a", 0));
    CHECK_FALSE(opened(folder)->has("b", 0));
    const TempDir other;
    REQUIRE(opened(other)->put("a", "0123", ""));
    {
      const auto store = opened(other);
      REQUIRE(store->put("a", "0123", ""));
      REQUIRE(store->save());
    }
    CHECK(opened(other)->has("a", 0));
    CHECK_FALSE(opened(other, 8)->has("a", 0));
  }

  TEST_CASE("a state goes to text and back, and a damaged one is nothing") {
    StoreState state;
    state.piece_bytes = 16;
    state.files["a.safetensors"] = {40, "\"e\"", {true, false, true}};
    state.files["empty"] = {0, "", {}};
    const std::string text = encode_state(state);
    const auto parsed = parse_state(text);
    REQUIRE(parsed);
    CHECK(encode_state(*parsed) == text);
    CHECK(parsed->files.at("a.safetensors").have == std::vector<bool>{true, false, true});
    for (std::size_t size = 0; size + 2 < text.size(); size += 3) {
      CHECK_FALSE(parse_state(text.substr(0, size)));
    }
    const auto replaced = [&](const std::string& old, const std::string& with) {
      std::string other = text;
      return other.replace(other.find(old), old.size(), with);
    };
    CHECK_FALSE(parse_state(replaced("a.safetensors", "../safetensors")));
    CHECK_FALSE(parse_state(replaced("\"length\": 40", "\"length\": 490")));
    CHECK_FALSE(parse_state(replaced("\"length\": 40", "\"length\": -4")));
    CHECK_FALSE(parse_state(replaced("\"piece_bytes\": 16", "\"piece_bytes\": 0")));
    CHECK_FALSE(parse_state(replaced("\"version\": 1", "\"version\": 2")));
  }
}

}  // namespace farmesh::weights
