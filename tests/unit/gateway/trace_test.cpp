#include "gateway/trace.hpp"

#include <string>

#include <doctest/doctest.h>

namespace farmesh::gateway {

TEST_SUITE("gateway/trace") {
  TEST_CASE("a caller's trace goes on with a span of our own") {
    const std::string received = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    const std::string ours = continue_trace(received);
    CHECK(trace_id(ours) == "4bf92f3577b34da6a3ce929d0e0e4736");
    CHECK(ours.size() == 55);
    CHECK(ours.ends_with("-00"));
    CHECK(ours != received);
    CHECK(
        trace_id(continue_trace("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")) ==
        "4bf92f3577b34da6a3ce929d0e0e4736");
  }

  TEST_CASE("without a sound one a trace begins here") {
    const std::string fresh = continue_trace(std::nullopt);
    CHECK(fresh.size() == 55);
    CHECK(fresh.starts_with("00-"));
    CHECK(fresh != continue_trace(std::nullopt));
    for (const char* wrong : {"", "00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                              "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                              "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                              "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                              "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                              "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01"}) {
      CHECK(trace_id(continue_trace(wrong)) != "4bf92f3577b34da6a3ce929d0e0e4736");
    }
  }
}

}  // namespace farmesh::gateway
