#include "base/mapped_file.hpp"

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "support/temp_dir.hpp"

namespace farmesh {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// Bytes of the mapping that are in this process's memory, as /proc/self/smaps tells.
std::size_t resident_bytes(const MappedFile& file) {
  char begin[32];
  std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<unsigned long>(file.bytes().data()));
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(begin)) inside = true;
    if (inside && line.starts_with("Rss:")) return std::stoul(line.substr(4)) * 1024;
  }
  return 0;
}

}  // namespace

TEST_SUITE("base/mapped_file") {
  TEST_CASE("a mapped file shows the bytes on disk") {
    const test::TempDir folder;
    const Result<MappedFile> file = MappedFile::open(folder.write("weights", "eight by"));
    REQUIRE(file);
    CHECK(text_of(*file) == "eight by");
  }

  TEST_CASE("a file that is absent, and a folder, are model_not_found and name the file") {
    const test::TempDir folder;
    for (const std::filesystem::path& path :
         {folder.path() / "absent", folder.path(), folder.write("file", "x") / "below"}) {
      const Result<MappedFile> mapped = MappedFile::open(path);
      REQUIRE_FALSE(mapped);
      CHECK(mapped.error().code == Errc::model_not_found);
      CHECK(mapped.error().detail.starts_with(path.filename().string()));
      const Result<std::string> text = read_text_file(path, 10);
      REQUIRE_FALSE(text);
      CHECK(text.error().code == Errc::model_not_found);
    }
  }

  TEST_CASE("an empty file maps to an empty view") {
    const test::TempDir folder;
    const Result<MappedFile> file = MappedFile::open(folder.write("empty", ""));
    REQUIRE(file);
    CHECK(file->bytes().empty());
    file->drop(0, 100);
  }

  TEST_CASE("moving a mapping leaves nothing behind") {
    const test::TempDir folder;
    Result<MappedFile> file = MappedFile::open(folder.write("weights", "first"));
    REQUIRE(file);
    MappedFile taken = std::move(*file);
    CHECK(text_of(taken) == "first");
    CHECK(file->bytes().empty());

    MappedFile assigned;
    assigned = std::move(taken);
    CHECK(text_of(assigned) == "first");
    CHECK(taken.bytes().empty());  // NOLINT(bugprone-use-after-move): what is being tested
  }

  TEST_CASE("dropped pages leave memory and read the same again") {
    constexpr std::size_t kPage = 4096;
    const test::TempDir folder;
    std::string content;
    for (char c = 'a'; c < 'i'; ++c) content += std::string(kPage, c);
    const Result<MappedFile> file = MappedFile::open(folder.write("weights", content));
    REQUIRE(file);
    REQUIRE(text_of(*file) == content);
    REQUIRE(resident_bytes(*file) == 8 * kPage);

    file->drop(kPage / 2, 3 * kPage);  // only the second and third page lie wholly inside
    CHECK(resident_bytes(*file) == 6 * kPage);
    file->drop(content.size() * 2, kPage);  // behind the end
    file->drop(kPage, ~std::uint64_t{0});   // a length that wraps around
    CHECK(resident_bytes(*file) == 6 * kPage);

    CHECK(text_of(*file) == content);
  }

  TEST_CASE("a text file is read whole, up to its bound and not beyond") {
    const test::TempDir folder;
    const std::filesystem::path path = folder.write("config.json", "0123456789");

    const Result<std::string> text = read_text_file(path, 10);
    REQUIRE(text);
    CHECK(*text == "0123456789");

    const Result<std::string> larger = read_text_file(path, 9);
    REQUIRE_FALSE(larger);
    CHECK(larger.error().code == Errc::model_malformed);
    CHECK(larger.error().detail == "config.json: larger than 9 bytes");
  }
}

}  // namespace farmesh
