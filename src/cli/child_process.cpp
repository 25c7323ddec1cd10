#include "cli/child_process.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.hpp"

namespace farmesh::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> environment_with(const std::vector<std::string>& more) {
  std::vector<std::string> all = more;  // getenv finds the first of a name
  for (char** entry = environ; *entry != nullptr; ++entry) all.emplace_back(*entry);
  return all;
}

// Between fork and exec: only calls that are safe there. Never returns.
[[noreturn]] void become(char* const* argv, char* const* environment, int input, int output,
                         int errors, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent died before the line above
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(argv[0], argv, environment);
  ::_exit(127);
}

}  // namespace

std::string own_program() {
  std::array<char, 4'096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  return length > 0 ? std::string(path.data(), std::size_t(length)) : std::string();
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& argv,
                                         const std::vector<std::string>& environment,
                                         const std::string& input) {
  std::array<int, 2> in{-1, -1};
  std::array<int, 2> out{-1, -1};
  ChildProcess child;
  child.errors_ = ::memfd_create("stderr", MFD_CLOEXEC);
  const bool made = child.errors_ >= 0 && ::pipe2(in.data(), O_CLOEXEC) == 0 &&
                    ::pipe2(out.data(), O_CLOEXEC) == 0;
  child.output_ = out[0];
  if (made) {
    // A pipe holds 64 KiB, so that this never waits for the child.
    (void)!::write(in[1], input.data(), std::min<std::size_t>(input.size(), 64u << 10));
    const std::vector<std::string> variables = environment_with(environment);
    const std::vector<char*> arguments = pointers(argv);
    const std::vector<char*> environment_pointers = pointers(variables);
    const pid_t parent = ::getpid();
    child.pid_ = ::fork();
    if (child.pid_ == 0) {
      become(arguments.data(), environment_pointers.data(), in[0], out[1], child.errors_, parent);
    }
  }
  const int failure = errno;
  for (const int descriptor : {in[0], in[1], out[1]}) ::close(descriptor);
  if (child.pid_ <= 0) {
    return {Errc::io_error, std::string("cannot start a process: ") + std::strerror(failure)};
  }
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept { *this = std::move(other); }

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(errors_, other.errors_);
  std::swap(buffer_, other.buffer_);
  std::swap(status_, other.status_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) {
    signal(SIGKILL);
    wait();
  }
  if (output_ >= 0) ::close(output_);
  if (errors_ >= 0) ::close(errors_);
}

std::optional<std::string> ChildProcess::read_line(milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  while (true) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    pollfd wait{output_, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&wait, 1, int(left.count())) <= 0) return std::nullopt;
    std::array<char, 4'096> bytes;
    const ssize_t count = ::read(output_, bytes.data(), bytes.size());
    if (count <= 0) return std::nullopt;
    buffer_.append(bytes.data(), std::size_t(count));
  }
}

std::string ChildProcess::read_all() {
  std::array<char, 65'536> bytes;
  for (ssize_t count = 0; (count = ::read(output_, bytes.data(), bytes.size())) > 0;) {
    buffer_.append(bytes.data(), std::size_t(count));
  }
  return std::exchange(buffer_, {});
}

int ChildProcess::wait() {
  while (!status_) reap(0);
  return *status_;
}

std::optional<int> ChildProcess::ended() {
  if (!status_) reap(WNOHANG);
  return status_;
}

void ChildProcess::reap(int options) {
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, options);
  FARMESH_ASSERT(ended >= 0 || errno == EINTR);  // nobody else waits for it
  if (ended != pid_) return;
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void ChildProcess::signal(int number) noexcept {
  if (!status_) ::kill(pid_, number);
}

std::string ChildProcess::errors() const {
  std::string text;
  std::array<char, 4'096> bytes;
  for (ssize_t count = 0;
       (count = ::pread(errors_, bytes.data(), bytes.size(), off_t(text.size()))) > 0;) {
    text.append(bytes.data(), std::size_t(count));
  }
  return text;
}

std::uint64_t ChildProcess::peak_resident_bytes() const {
  if (status_) return 0;
  std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace farmesh::cli
