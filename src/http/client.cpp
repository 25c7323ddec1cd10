#include "http/client.hpp"

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.hpp"
#include "http/client_connection.hpp"
#include "http/proxy.hpp"

namespace farmesh::http {
namespace {

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 127 &&
           std::string_view("\"(),/:;<=>?@[\\]{}").find(c) == std::string_view::npos;
  });
}

bool is_field_value(std::string_view text) {
  return std::ranges::none_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < ' ' && c != '\t') || byte == 127;
  });
}

Result<void> check(const ClientRequest& request) {
  if (!is_token(request.method)) return Error{Errc::invalid_argument, "no HTTP method"};
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || !is_field_value(value)) {
      return Error{Errc::invalid_argument, "no HTTP header"};
    }
  }
  return {};
}

std::string text_of(const ClientRequest& request, const Url& url, const std::optional<Url>& proxy,
                    const ClientOptions& options) {
  Headers headers = request.headers;
  const auto set_default = [&](std::string_view name, const std::string& value) {
    if (!headers.get(name)) headers.add(name, value);
  };
  set_default("Host", url.authority());
  set_default("User-Agent", options.user_agent);
  set_default("Accept", "*/*");
  if (!url.user_info.empty()) set_default("Authorization", basic_credentials(url.user_info));
  if (proxy && !url.secure() && !proxy->user_info.empty()) {
    set_default("Proxy-Authorization", basic_credentials(proxy->user_info));
  }
  if (request.range_first) {
    const std::string last = request.range_last ? std::to_string(*request.range_last) : "";
    headers.set("Range", "bytes=" + std::to_string(*request.range_first) + "-" + last);
  }
  headers.erase("Transfer-Encoding");
  headers.erase("Content-Length");
  const bool expects_body = request.method != "GET" && request.method != "HEAD";
  if (expects_body || !request.body.empty()) {
    headers.add("Content-Length", std::to_string(request.body.size()));
  }
  // A proxy that passes requests on, and no bytes, is told the whole URL.
  const std::string target = proxy && !url.secure() ? url.to_string() : url.target();
  std::string text = request.method + " " + target + " HTTP/1.1\r\n";
  for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
  return text + "\r\n" + request.body;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

struct Cancellation::State {
  State() : descriptor(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    FARMESH_ASSERT(descriptor >= 0);
  }
  ~State() { ::close(descriptor); }
  std::atomic<bool> cancelled = false;
  const int descriptor;
};

Cancellation::Cancellation() : state_(std::make_shared<State>()) {}

void Cancellation::cancel() noexcept {
  state_->cancelled = true;
  const std::uint64_t one = 1;
  static_cast<void>(!::write(state_->descriptor, &one, sizeof(one)));
}

bool Cancellation::cancelled() const noexcept { return state_->cancelled; }
int Cancellation::descriptor() const noexcept { return state_->descriptor; }

struct Client::Impl {
  struct Idle {
    std::string key;
    TimePoint since;
    std::unique_ptr<ClientConnection> connection;
  };

  /// Where a call is sent, and what tells its connections apart from others'.
  struct Way {
    Url url;
    std::optional<Url> proxy;
    std::string key() const {
      return url.scheme + "://" + url.authority() + " " + (proxy ? proxy->authority() : "");
    }
  };

  std::unique_ptr<ClientConnection> take_idle(const std::string& key) {
    const std::lock_guard lock(mutex);
    std::erase_if(idle,
                  [&](const Idle& each) { return now() - each.since > options.idle_timeout; });
    for (auto each = idle.begin(); each != idle.end();) {
      if (each->key != key) {
        ++each;
        continue;
      }
      auto connection = std::move(each->connection);
      each = idle.erase(each);
      if (connection->is_reusable()) return connection;
    }
    return nullptr;
  }

  void keep(std::string key, std::unique_ptr<ClientConnection> connection) {
    const std::lock_guard lock(mutex);
    idle.push_front({std::move(key), now(), std::move(connection)});
    if (idle.size() > options.max_idle_connections) idle.pop_back();
  }

  Result<std::shared_ptr<TlsContext>> tls_context() {
    const std::lock_guard lock(mutex);
    if (tls) return tls;
    auto made = TlsContext::client(options.ca_file);
    if (made) tls = *made;
    return made;
  }

  Result<std::unique_ptr<ClientConnection>> open(const Way& way, const Patience& patience) {
    std::shared_ptr<TlsContext> context;
    if (way.url.secure()) {
      auto made = tls_context();
      if (!made) return made.error();
      context = std::move(*made);
    }
    return ClientConnection::open(way.url, way.proxy, std::move(context), options, patience);
  }

  /// Sends and awaits the head. A kept connection may have died unnoticed: then, if nothing is
  /// lost by repeating the request, a fresh one is tried.
  Result<ResponseHead> begin(const ClientRequest& request, const Way& way, const Patience& patience,
                             std::unique_ptr<ClientConnection>& connection) {
    const std::string text = text_of(request, way.url, way.proxy, options);
    const bool repeatable = request.method == "GET" || request.method == "HEAD";
    connection = take_idle(way.key());
    if (connection) {
      Result<void> sent = connection->send(text, patience);
      Result<ResponseHead> head =
          sent ? connection->receive_head(request.method, patience) : sent.error();
      const bool stale =
          !head && head.error().code == Errc::connection_lost && connection->silent();
      if (!stale || !repeatable) return head;
    }
    auto opened = open(way, patience);
    if (!opened) return opened.error();
    connection = std::move(*opened);
    if (const auto sent = connection->send(text, patience); !sent) return sent.error();
    return connection->receive_head(request.method, patience);
  }

  /// One request and its answer, without redirects.
  Result<ClientReply> once(const ClientRequest& request, const Way& way, const OnHead& on_head,
                           const ClientConnection::Sink& sink, bool follow,
                           const Patience& patience) {
    std::unique_ptr<ClientConnection> connection;
    auto head = begin(request, way, patience, connection);
    if (!head) return head.error();
    ClientReply reply{head->status, std::move(head->headers), {}, way.url.to_string()};
    const bool redirected = follow && is_redirect(reply.status) && reply.headers.get("Location");
    if (!redirected && on_head && !on_head(reply)) return Error{Errc::cancelled, "by the caller"};
    // The body of a redirect is read, so that the connection can be kept, and not passed on.
    std::size_t dropped = 0;
    const ClientConnection::Sink drop = [&](std::string_view bytes) -> Result<void> {
      dropped += bytes.size();
      if (dropped > options.max_body_bytes) return {Errc::frame_too_large, "a redirect's body"};
      return {};
    };
    const auto received =
        connection->receive_body(head->framing, redirected ? drop : sink, patience);
    if (!received) return received.error();
    if (head->keep_alive) keep(way.key(), std::move(connection));
    return reply;
  }

  Result<Way> way_to(Url url) const {
    if (!options.proxy_from_environment) return Way{std::move(url), {}};
    auto proxy = proxy_for(url);
    if (!proxy) return proxy.error();
    return Way{std::move(url), std::move(*proxy)};
  }

  Result<ClientReply> run(ClientRequest request, const OnHead& on_head,
                          const ClientConnection::Sink& sink, const Cancellation& cancellation) {
    if (const auto checked = check(request); !checked) return checked.error();
    auto url = parse_url(request.url);
    if (!url) return url.error();
    const bool limited = options.total_timeout.count() > 0;
    const Patience patience{cancellation,
                            limited ? now() + options.total_timeout : TimePoint::max()};
    const bool may_follow = request.method == "GET" || request.method == "HEAD";
    const int redirects = may_follow ? options.max_redirects : 0;
    for (int followed = 0;; ++followed) {
      const auto way = way_to(*url);
      if (!way) return way.error();
      auto reply = once(request, *way, on_head, sink, redirects > 0, patience);
      if (!reply || redirects == 0 || !is_redirect(reply->status)) return reply;
      const auto location = reply->headers.get("Location");
      if (!location) return reply;
      if (followed == redirects) return Error{Errc::bad_http, "redirects without end"};
      auto next = resolve(*url, *location);
      if (!next) return Error{Errc::bad_http, "a redirect to no URL"};
      if (url->secure() && !next->secure()) return Error{Errc::bad_http, "a redirect out of TLS"};
      if (next->host != url->host || next->port != url->port) {
        request.headers.erase("Authorization");  // was for the other host only
        request.headers.erase("Cookie");
      }
      url = std::move(next);
    }
  }

  ClientOptions options;
  std::mutex mutex;
  std::list<Idle> idle;  // the latest first
  std::shared_ptr<TlsContext> tls;
};

Client::Client(ClientOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
}

Client::~Client() = default;

Result<ClientReply> Client::send(const ClientRequest& request, const Cancellation& cancellation) {
  std::string body;
  const ClientConnection::Sink sink = [&](std::string_view bytes) -> Result<void> {
    if (body.size() + bytes.size() > impl_->options.max_body_bytes) {
      return {Errc::frame_too_large, "the answer's body"};
    }
    body += bytes;
    return {};
  };
  auto reply = impl_->run(request, {}, sink, cancellation);
  if (reply) reply->body = std::move(body);
  return reply;
}

Result<ClientReply> Client::stream(const ClientRequest& request, const OnHead& on_head,
                                   const OnBody& on_body, const Cancellation& cancellation) {
  const ClientConnection::Sink sink = [&](std::string_view bytes) -> Result<void> {
    if (!on_body(bytes)) return {Errc::cancelled, "by the caller"};
    return {};
  };
  return impl_->run(request, on_head, sink, cancellation);
}

}  // namespace farmesh::http
