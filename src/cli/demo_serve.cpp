#include "cli/demo_serve.hpp"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "cli/child_process.hpp"
#include "cli/terminal.hpp"

namespace farmesh::cli {
namespace {

constexpr int kUsualPort = 8'100;

// Its ledger, gone with the demo.
class DemoFolder {
 public:
  DemoFolder()
      : path_(std::filesystem::temp_directory_path() / fmt::format("farmesh-demo-{}", ::getpid())) {
    std::error_code ignored;  // the coordinator tells better what is wrong
    std::filesystem::create_directories(path_, ignored);
  }
  ~DemoFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  DemoFolder(const DemoFolder&) = delete;
  DemoFolder& operator=(const DemoFolder&) = delete;

  std::string ledger() const { return (path_ / "ledger.sqlite").string(); }

 private:
  const std::filesystem::path path_;
};

struct Served {
  ChildProcess process;
  std::string url;
};

Result<Served> start(const DemoServeOptions& options, const std::string& ledger, int port) {
  std::vector<std::string> argv{own_program(),     "coordinator", "--model",  options.model,
                                "--threads",       "1",           "--ledger", ledger,
                                "--public-budget", "10",          "--port",   std::to_string(port)};
  for (const std::string& peer : options.peers) argv.insert(argv.end(), {"--peer", peer});
  Result<ChildProcess> process = ChildProcess::start(argv, {"LOG_LEVEL=warning"});
  if (!process) return process.error();
  constexpr std::string_view kBefore = "listening on ";
  const std::optional<std::string> line = process->read_line(std::chrono::minutes(2));
  if (!line || !line->starts_with(kBefore)) {
    return {Errc::timeout, "the coordinator did not start; it said: " + process->errors()};
  }
  std::string url = line->substr(kBefore.size(), line->find(' ', kBefore.size()) - kBefore.size());
  return Served{*std::move(process), std::move(url)};
}

// As a reader would: through the shell, with curl.
Result<void> check(const std::string& line) {
  Result<ChildProcess> shell = ChildProcess::start({"/bin/sh", "-c", line});
  if (!shell) return shell.error();
  const std::string said = shell->read_all();
  const int status = shell->wait();
  constexpr int kNoSuchProgram = 127;
  if (status == kNoSuchProgram) {
    fmt::print("There is no curl here to try it with.\n");
    return {};
  }
  std::size_t events = 0;
  for (std::size_t at = said.find("data: "); at != std::string::npos;
       at = said.find("data: ", at + 1)) {
    ++events;
  }
  const bool done = said.find("\"done\":true") != std::string::npos;
  if (status != 0 || !done || events < 2) {
    return {Errc::io_error,
            fmt::format("that line did not stream: status {}, {} events", status, events)};
  }
  fmt::print("It streams: {} events.\n", events);
  return {};
}

}  // namespace

Result<void> serve_demo(const DemoServeOptions& options) {
  const DemoFolder folder;
  Result<Served> served = start(options, folder.ledger(), kUsualPort);
  if (!served) served = start(options, folder.ledger(), 0);  // somebody has that port
  if (!served) return served.error();
  const std::string line =
      fmt::format(R"(curl -sN {}/inference/generate -d '{{"prompt":"{}","max_tokens":60}}')",
                  served->url, options.prompt);
  const Palette palette(STDOUT_FILENO);
  fmt::print(
      "\nThe same peers over HTTP, for OpenAI's clients at {}/v1, for people at {}/\n"
      "  {}{}{}\n",
      served->url, served->url, palette.bold, line, palette.reset);
  std::fflush(stdout);
  Result<void> outcome;
  if (options.wait) {
    fmt::print("Ctrl-C ends it.\n");
    std::fflush(stdout);
    options.wait();
  } else {
    outcome = check(line);
  }
  served->process.signal(SIGTERM);
  (void)served->process.wait();
  return outcome;
}

}  // namespace farmesh::cli
