#include "base/thread.hpp"

#include <array>
#include <string>

#include <doctest/doctest.h>
#include <pthread.h>

namespace farmesh {
namespace {

std::string name_seen_inside(std::string_view name) {
  std::array<char, 16> seen{};
  start_thread(name, [&] { pthread_getname_np(pthread_self(), seen.data(), seen.size()); }).join();
  return seen.data();
}

}  // namespace

TEST_SUITE("base/thread") {
  TEST_CASE("a thread runs under its name, cut to what Linux keeps") {
    CHECK(name_seen_inside("fm-net") == "fm-net");
    CHECK(name_seen_inside("a name that is too long") == "a name that is ");
  }

  TEST_CASE("at least one core is available, and not more than the machine has") {
    CHECK(available_cores() >= 1);
    CHECK(available_cores() <= static_cast<int>(std::thread::hardware_concurrency()));
  }
}

}  // namespace farmesh
