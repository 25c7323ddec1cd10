// A PostgreSQL server of the tests' own: started once a process on a socket in a temporary folder,
// gone with the process. Nothing when Debian's binaries are not installed.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/temp_dir.hpp"

namespace farmesh::test {

class PostgresServer {
 public:
  /// Null when there is no PostgreSQL on this machine.
  static PostgresServer* get() {
    static const std::unique_ptr<PostgresServer> server = start();
    return server.get();
  }
  ~PostgresServer() {
    if (owner_ != ::getpid()) return;  // a forked child that ends
    ::kill(process_, SIGQUIT);
    ::waitpid(process_, nullptr, 0);
  }
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  /// Of an empty database that nobody has used.
  std::string new_database() {
    const std::string name = "ledger_" + std::to_string(++databases_);
    FARMESH_ASSERT(psql({"-c", "CREATE DATABASE " + name}, "postgres"));
    return "postgresql://" + user() + "@/" + name + "?host=" + folder_.path().string();
  }

  /// psql with these arguments on the database of `url_or_name`; whether it ended well.
  bool psql(std::vector<std::string> arguments, const std::string& database) const {
    std::vector<std::string> all = {
        "-X", "-q",   "-v", "ON_ERROR_STOP=1", "-h", folder_.path().string(),
        "-U", user(), "-d", database};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run("psql", all);
  }

 private:
  static constexpr const char* kBinaries = "/usr/lib/postgresql/15/bin/";
  static constexpr unsigned kNobody = 65'534;  // who serves when the tests run as root

  PostgresServer() = default;

  static std::string user() { return "tester"; }

  static void become_unprivileged() {
    if (::geteuid() != 0) return;
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) ::_exit(126);
  }

  [[noreturn]] static void become(const char* program, const std::vector<std::string>& arguments) {
    const int nowhere = ::open("/dev/null", O_RDWR);
    ::dup2(nowhere, 0);
    ::dup2(nowhere, 1);
    ::dup2(nowhere, 2);
    const std::string path = std::string(kBinaries) + program;
    std::vector<char*> argv = {const_cast<char*>(path.c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    if (::chdir("/") == 0) ::execv(path.c_str(), argv.data());
    ::_exit(127);
  }

  static bool run(const char* program, const std::vector<std::string>& arguments) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (std::string(program) != "psql") become_unprivileged();
      become(program, arguments);
    }
    int status = 0;
    return ::waitpid(child, &status, 0) == child && status == 0;
  }

  bool answers() const {
    const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = (folder_.path() / ".s.PGSQL.5432").string();
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const bool connected =
        ::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(socket);
    return connected && psql({"-c", "SELECT 1"}, "postgres");
  }

  static std::unique_ptr<PostgresServer> start() {
    if (!std::filesystem::exists(std::string(kBinaries) + "initdb")) return nullptr;
    std::unique_ptr<PostgresServer> server(new PostgresServer());
    const std::string folder = server->folder_.path().string();
    const std::string data = folder + "/data";
    if (::geteuid() == 0) FARMESH_ASSERT(::chown(folder.c_str(), kNobody, kNobody) == 0);
    FARMESH_ASSERT(run("initdb", {"-D", data, "-U", user(), "-A", "trust", "--no-sync", "-E",
                                  "UTF8", "--locale=C.UTF-8"}));
    server->process_ = ::fork();
    if (server->process_ == 0) {
      become_unprivileged();
      ::prctl(PR_SET_PDEATHSIG, SIGQUIT);
      become("postgres", {"-D", data, "-k", folder, "-c", "listen_addresses=", "-F", "-c",
                          "max_connections=40", "-c", "shared_buffers=64MB"});
    }
    for (int i = 0; i < 3'000 && !server->answers(); ++i) ::usleep(10'000);
    FARMESH_ASSERT(server->answers());
    return server;
  }

  TempDir folder_;
  pid_t process_ = -1;
  pid_t owner_ = ::getpid();
  int databases_ = 0;
};

}  // namespace farmesh::test
