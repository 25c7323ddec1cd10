#include "base/log.hpp"

#include <algorithm>
#include <cstdio>
#include <regex>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "support/temp_dir.hpp"

namespace farmesh {
namespace {

/// What reaches standard error while `body` runs.
template <class Body>
std::string standard_error_of(Body body) {
  const test::TempDir folder;
  const auto path = folder.path() / "stderr";
  std::fflush(stderr);
  const int kept = ::dup(STDERR_FILENO);
  std::FILE* file = std::fopen(path.c_str(), "w+");
  ::dup2(::fileno(file), STDERR_FILENO);
  body();
  std::fflush(stderr);
  ::dup2(kept, STDERR_FILENO);
  ::close(kept);

  std::string text(4096, '\0');
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

struct KeptLevel {
  LogLevel level = log_level();
  ~KeptLevel() { set_log_level(level); }
};

}  // namespace

TEST_SUITE("base/log") {
  TEST_CASE("a line carries the time in UTC, the level, the room and the message") {
    const KeptLevel kept;
    set_log_level(LogLevel::info);
    const std::string text =
        standard_error_of([] { log(LogLevel::warning, "net", "peer 7f3a left"); });
    CHECK(std::regex_match(
        text,
        std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning net: peer 7f3a left\n)")));
  }

  TEST_CASE("as JSON a line is one object, whatever the message holds") {
    const KeptLevel kept;
    set_log_level(LogLevel::info);
    set_log_format(LogFormat::json);
    const std::string text = standard_error_of([] {
      log(LogLevel::info, "http", "a \"b\"\n\\c", {{"request_id", "r\t1"}, {"empty", ""}});
    });
    set_log_format(LogFormat::text);
    CHECK(text.starts_with(R"({"time":"20)"));
    CHECK(text.ends_with(R"(Z","level":"info","room":"http","message":"a \"b\"\u000a\\c",)"
                         R"("request_id":"r\u00091","empty":""})"
                         "\n"));
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
    CHECK(standard_error_of([] {
            log(LogLevel::info, "http", "done", {{"request_id", "r1"}, {"empty", ""}});
          }).ends_with("Z info http: done request_id=r1\n"));
  }

  TEST_CASE("a line below the level is not written") {
    const KeptLevel kept;
    set_log_level(LogLevel::error);
    CHECK(standard_error_of([] { log(LogLevel::warning, "net", "quiet"); }).empty());
    set_log_level(LogLevel::off);
    CHECK(standard_error_of([] { log(LogLevel::error, "net", "quiet"); }).empty());
  }
}

}  // namespace farmesh
