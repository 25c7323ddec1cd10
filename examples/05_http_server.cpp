// A model behind HTTP, without a framework: the body of a request is the prompt, and the answer
// streams back as it is made. One request at a time, for the machine itself alone; `farmesh
// coordinator` is the one for others.
//
//   05_http_server models/demo 8080 &
//   curl -N localhost:8080 -d "Once upon a time"
#include <cstdio>
#include <cstdlib>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <farmesh/farmesh.hpp>

namespace {

// False once the client is gone.
bool send_text(int client, const std::string& text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t more = ::send(client, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (more <= 0) return false;
    sent += std::size_t(more);
  }
  return true;
}

// The body, of which "Content-Length: N" tells the size; empty when there is none.
std::string read_body(int client) {
  std::string request;
  char buffer[4096];
  for (;;) {
    const std::size_t head = request.find("\r\n\r\n");
    if (head != std::string::npos) {
      const std::size_t field = request.find("Content-Length: ");
      const std::size_t size = field < head ? std::strtoul(&request[field + 16], nullptr, 10) : 0;
      if (request.size() >= head + 4 + size) return request.substr(head + 4, size);
    }
    const ssize_t more = ::recv(client, buffer, sizeof buffer, 0);
    if (more <= 0 || request.size() > 64 * 1024) return {};
    request.append(buffer, std::size_t(more));
  }
}

void answer(int client, const farmesh::DistributedModel& model) {
  const std::string prompt = read_body(client);
  auto session = model.open_session();
  if (prompt.empty() || !session) {
    send_text(client, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    return;
  }
  bool open = send_text(client,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                        "Connection: close\r\n\r\n");
  farmesh::TokenStream stream = session->generate(prompt, {.max_tokens = 200});
  for (const farmesh::Token& token : stream) {
    open = open && send_text(client, token.text);
    if (!open) stream.cancel();
  }
  if (const auto error = stream.error()) send_text(client, "\n" + error->to_string());
  send_text(client, "\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: 05_http_server MODEL_FOLDER PORT\n");
    return 2;
  }
  const auto model = farmesh::DistributedModel::open({.folder = argv[1], .local = true});
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().to_string().c_str());
    return 1;
  }
  const int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(std::uint16_t(std::atoi(argv[2])))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(server, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(server, 8) != 0) {
    std::perror("05_http_server");
    return 1;
  }
  ::getsockname(server, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("listening on http://localhost:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  for (int client; (client = ::accept(server, nullptr, nullptr)) >= 0; ::close(client)) {
    answer(client, *model);
  }
  return 1;
}
