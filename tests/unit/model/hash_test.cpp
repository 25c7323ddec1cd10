#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "base/mapped_file.hpp"
#include "model/model_hash.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::model {
namespace {

using farmesh::test::TempDir;

std::string hash_of(const TempDir& folder, const std::filesystem::path& cache = {}) {
  const Result<ModelHash> hash = model_hash(folder.path(), cache);
  return hash ? to_hex(*hash) : std::string(name(hash.error().code));
}

// Computed with a few lines of Python's hashlib.
const std::string kOnlyConfig = "187bb5aa23b097617df2857db0ef818731d44a5615577d7e315fa30dab11b068";
const std::string kFiveFiles = "031a0530c40e963fdbabec6db7722019dbbaa66d995fd458fe75d5cc6347632b";

void write_five_files(const TempDir& folder) {
  std::string weights;
  for (int i = 0; i < 5 * 16384 + 1; ++i) weights += static_cast<char>(i % 251);
  folder.write("config.json", "{}");
  folder.write("tokenizer.json", std::string(16384, 'a'));    // one full leaf
  folder.write("tokenizer.model", std::string(16385, 'b'));   // a leaf and a byte
  folder.write("merges.txt", "");                             // no leaf at all
  folder.write("model-00001-of-00001.safetensors", weights);  // padded from 6 leaves to 8
}

TEST_SUITE("model/hash") {
  TEST_CASE("the hash is that of an independent BEP 52 file tree") {
    const TempDir small, full;
    small.write("config.json", "{}");
    CHECK(hash_of(small) == kOnlyConfig);
    write_five_files(full);
    CHECK(hash_of(full) == kFiveFiles);
  }

  TEST_CASE("files that are not the model do not count") {
    const TempDir folder;
    write_five_files(folder);
    folder.write("README.md", "text");
    folder.write("pytorch_model.bin", "other weights");
    std::filesystem::create_directory(folder.path() / "extra.safetensors");
    CHECK(hash_of(folder) == kFiveFiles);
  }

  TEST_CASE("one changed byte changes the hash, with and without a cache") {
    const TempDir folder, elsewhere;
    const auto cache = elsewhere.path() / "deep" / "roots.json";
    write_five_files(folder);
    CHECK(hash_of(folder, cache) == kFiveFiles);
    CHECK(std::filesystem::exists(cache));
    CHECK(hash_of(folder, cache) == kFiveFiles);
    folder.write("merges.txt", "x");
    CHECK(hash_of(folder, cache) != kFiveFiles);
    CHECK(hash_of(folder, cache) == hash_of(folder));
  }

  TEST_CASE("a cached root is used while size and time stand, and a damaged cache is ignored") {
    const TempDir folder, elsewhere;
    const auto cache = elsewhere.path() / "roots.json";
    write_five_files(folder);
    CHECK(hash_of(folder, cache) == kFiveFiles);
    const auto file = folder.path() / "tokenizer.json";
    const auto written = std::filesystem::last_write_time(file);
    folder.write("tokenizer.json", std::string(16384, 'c'));
    std::filesystem::last_write_time(file, written);
    CHECK(hash_of(folder, cache) == kFiveFiles);  // not read again
    for (const char* damaged : {"", "[]", "{\"a\"", R"({"x": 5})"}) {
      elsewhere.write("roots.json", damaged);
      CHECK(hash_of(folder, cache) == hash_of(folder));
    }
  }

  TEST_CASE("a folder without a config is no model") {
    const TempDir folder;
    CHECK(hash_of(folder) == "model_not_found");
    CHECK(model_hash(folder.path() / "absent").error().code == Errc::model_not_found);
  }

  TEST_CASE("hashes go to hexadecimal and back") {
    const Result<ModelHash> hash = model_hash_from_hex(kFiveFiles);
    REQUIRE(hash);
    CHECK(to_hex(*hash) == kFiveFiles);
    CHECK(model_hash_from_hex("12ab").error().code == Errc::invalid_argument);
    CHECK_FALSE(model_hash_from_hex(std::string(64, 'g')));
  }
}

}  // namespace
}  // namespace farmesh::model
