#include "node/bandwidth.hpp"

#include <fstream>

#include <doctest/doctest.h>

#include "support/temp_dir.hpp"
#include "unit/net/loop.hpp"

namespace farmesh::node {
namespace {

using namespace std::chrono_literals;
using ConnectionPtr = std::shared_ptr<net::Connection>;

/// What is measured over a simulated link of so many bytes a second, with 20 ms each way.
std::uint32_t measured_at(double bytes_per_second, bool answers = true) {
  test::Loop loop;
  net::SimNetwork network(loop.clock, {20ms, 0ms, bytes_per_second}, 1);
  const auto far = network.host("far");
  const auto near = network.host("near");
  ConnectionPtr accepted;
  const auto listener = far->listen("far:1", [&](std::shared_ptr<net::Link> link) {
    net::Connection::accept(
        std::move(link), loop.clock, test::identity("far"), [](auto&&...) {}, {},
        [&](const ConnectionPtr& ready) { accepted = ready; });
  });
  REQUIRE(listener);
  const auto connection = loop.run(net::Connection::connect(
      *near, "far:1", test::identity("near"), [](auto&&...) {}, {}, loop.after(5s)));
  REQUIRE(connection);
  if (!answers) network.partition("near", "far", true);
  return loop.run(measure_bandwidth(*connection, loop.after(30s)));
}

}  // namespace

TEST_SUITE("node/bandwidth") {
  TEST_CASE("what is measured is what the link carries, slow or fast") {
    for (const double bytes_per_second : {125'000.0, 1'250'000.0, 12'500'000.0}) {
      const double kbps = bytes_per_second * 8 / 1'000;
      CAPTURE(kbps);
      CHECK(measured_at(bytes_per_second) == doctest::Approx(kbps).epsilon(0.15));
    }
  }

  TEST_CASE("who does not answer tells nothing") { CHECK(measured_at(1e6, false) == 0); }

  TEST_CASE("it is remembered for a day, and a file that makes no sense is none") {
    const test::TempDir folder;
    const auto file = folder.path() / "cache" / "bandwidth";
    const auto now = std::chrono::system_clock::now();
    CHECK(remembered_bandwidth(file, now) == 0);
    remember_bandwidth(file, 20'000, now);
    CHECK(remembered_bandwidth(file, now) == 20'000);
    CHECK(remembered_bandwidth(file, now + 23h) == 20'000);
    CHECK(remembered_bandwidth(file, now + 25h) == 0);
    CHECK(remembered_bandwidth(file, now - 2h) == 0);
    std::ofstream(file) << "nonsense";
    CHECK(remembered_bandwidth(file, now) == 0);
  }
}

}  // namespace farmesh::node
