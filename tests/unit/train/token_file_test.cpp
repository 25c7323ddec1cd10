#include "train/token_file.hpp"

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

using namespace farmesh;
using namespace farmesh::train;

namespace {

constexpr std::uint16_t kStart = kBosId | kNotLearned;

std::filesystem::path scratch(const char* name) {
  return std::filesystem::path(FARMESH_BINARY_DIR) / name;
}

}  // namespace

TEST_SUITE("train/token_file") {
  TEST_CASE("a row starts with a whole document and cuts the last one") {
    Corpus corpus({kStart, 10, 11, kEosId, kStart, 20, 21, 22, kEosId, kStart, 30, kEosId});
    const Batch first = corpus.next(1, 5);
    CHECK(first.inputs == std::vector<std::int64_t>{1, 10, 11, 1, 20});
    CHECK(first.targets == std::vector<std::int64_t>{10, 11, 2, 20, 21});
    CHECK(first.documents == std::vector<std::int64_t>{0, 0, 0, 1, 1});
    const Batch second = corpus.next(1, 5);
    CHECK(second.inputs == std::vector<std::int64_t>{1, 30, 1, 10, 11});
  }

  TEST_CASE("what a user says is read but not learned") {
    Corpus corpus({kStart, 50 | kNotLearned, 60, kEosId});
    const Batch batch = corpus.next(1, 3);
    CHECK(batch.inputs == std::vector<std::int64_t>{1, 50, 60});
    CHECK(batch.targets == std::vector<std::int64_t>{kNotScored, 60, 2});
  }

  TEST_CASE("a corpus resumes where it stood") {
    const std::vector<std::uint16_t> tokens{kStart, 5,      kEosId, kStart, 6,
                                            kEosId, kStart, 7,      kEosId};
    Corpus one(tokens), other(tokens);
    one.next(1, 2);
    other.seek(one.position());
    CHECK(one.next(2, 2).inputs == other.next(2, 2).inputs);
  }

  TEST_CASE("tokens are read back as written; other files are refused") {
    const auto file = scratch("train_tokens.test");
    REQUIRE(write_tokens(file, {kStart, 9, kEosId}));
    const auto read = read_tokens(file);
    REQUIRE(read);
    CHECK(*read == std::vector<std::uint16_t>{kStart, 9, kEosId});
    std::ofstream(file) << "not a corpus";
    CHECK_FALSE(read_tokens(file));
    CHECK_FALSE(read_tokens(scratch("no such file")));
    std::filesystem::remove(file);
  }
}
