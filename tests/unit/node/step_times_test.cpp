#include "node/step_times.hpp"

#include <fstream>

#include <doctest/doctest.h>

#include "support/temp_dir.hpp"

namespace farmesh::node {
namespace {

using namespace std::chrono_literals;

const ModelHash kModel{{1, 2, 3}};

}  // namespace

TEST_SUITE("node/step_times") {
  TEST_CASE("what a layer takes depends on weights, arithmetic, threads and processor") {
    const std::string key = step_time_key(kModel, "bf16/exact-2/fma", 2, "a CPU");
    CHECK(key.size() == 32);
    CHECK(key == step_time_key(kModel, "bf16/exact-2/fma", 2, "a CPU"));
    CHECK(key != step_time_key(ModelHash{{1}}, "bf16/exact-2/fma", 2, "a CPU"));
    CHECK(key != step_time_key(kModel, "int4/exact-2/fma", 2, "a CPU"));
    CHECK(key != step_time_key(kModel, "bf16/exact-2/fma", 1, "a CPU"));
    CHECK(key != step_time_key(kModel, "bf16/exact-2/fma", 2, "another"));
  }

  TEST_CASE("it is remembered for a day, beside those of other models") {
    const test::TempDir folder;
    const auto file = folder.path() / "cache" / "step-times";
    const auto now = std::chrono::system_clock::now();
    const std::string one = step_time_key(kModel, "f32", 1, "");
    const std::string two = step_time_key(kModel, "f32", 2, "");
    CHECK(remembered_step_time(file, one, now) == 0);
    remember_step_time(file, one, 310, now);
    remember_step_time(file, two, 170, now + 1h);
    CHECK(remembered_step_time(file, one, now + 2h) == 310);
    CHECK(remembered_step_time(file, two, now + 2h) == 170);
    CHECK(remembered_step_time(file, one, now + 24h) == 0);
    CHECK(remembered_step_time(file, two, now + 24h) == 170);
    CHECK(remembered_step_time(file, one, now - 2h) == 0);
    remember_step_time(file, one, 290, now + 3h);
    CHECK(remembered_step_time(file, one, now + 24h) == 290);
    remember_step_time({}, one, 1, now);  // no folder to keep it in
  }

  TEST_CASE("a file that makes no sense says nothing and is written anew, and none grows on") {
    const test::TempDir folder;
    const auto file = folder.path() / "step-times";
    const auto now = std::chrono::system_clock::now();
    const std::string key = step_time_key(kModel, "f32", 1, "");
    for (const char* text : {"nonsense", "12 34", "\xff\xfe", "k 1 99999999999999999999999\n"}) {
      std::ofstream(file, std::ios::trunc) << text;
      CHECK(remembered_step_time(file, key, now) == 0);
      remember_step_time(file, key, 5, now);
      CHECK(remembered_step_time(file, key, now) == 5);
    }
    for (int threads = 0; threads < 200; ++threads) {
      remember_step_time(file, step_time_key(kModel, "f32", threads, "x"), 7, now);
    }
    CHECK(std::filesystem::file_size(file) < 64 * 64);
    CHECK(remembered_step_time(file, step_time_key(kModel, "f32", 199, "x"), now) == 7);
    CHECK(remembered_step_time(file, key, now) == 0);
  }
}

}  // namespace farmesh::node
