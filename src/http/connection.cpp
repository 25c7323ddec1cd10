#include "http/connection.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "http/server_state.hpp"

namespace farmesh::http {
namespace {

constexpr std::size_t kScratchBytes = 64 * 1024;
constexpr int kReadsAtATime = 16;  // before other connections have their turn
constexpr std::size_t kMaxLingered = 1024 * 1024;
constexpr std::chrono::seconds kLinger{2};

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }

bool is_sound_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::ranges::all_of(id, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  });
}

std::string new_id() {
  std::array<std::uint8_t, 16> bytes;
  random_bytes(bytes);
  return to_hex(bytes);
}

/// What the handler throws ends here; its Responder answers 500 on the way out.
void run_handler(const Route& route, const Request& request, std::shared_ptr<Exchange> exchange) {
  const auto complain = [&](const std::string& why) {
    log(LogLevel::error, "http",
        "the handler of " + route.method + " " + route.pattern + " threw" + why);
  };
  try {
    route.handler(request, Responder(std::move(exchange)));
  } catch (const std::exception& problem) {
    complain(std::string(": ") + problem.what());
  } catch (...) {
    complain("");
  }
}

}  // namespace

Connection::Connection(ServerState& server, Loop& loop, int descriptor, IpAddress peer)
    : server_(server), loop_(loop), peer_(peer), channel_(descriptor), socket_(loop, descriptor) {}

Connection::~Connection() { close(); }

void Connection::start() {
  deadline_ = now() + server_.options->head_timeout;
  if (server_.tls) channel_.secure_as_server(server_.tls);
  shake_hands();
}

void Connection::shake_hands() {
  switch (channel_.handshake()) {
    case Io::done:
      phase_ = Phase::idle;
      deadline_ = now() + server_.options->idle_timeout;
      // Until the first byte comes there is nothing to read: most clients are not that fast.
      return channel_.secure() ? read_more() : await_more();
    case Io::want_read: return await_more();
    case Io::want_write: writing_ = true; return socket_.await_writable(shared_from_this());
    case Io::end:
    case Io::failed: return close();
  }
}

void Connection::on_readable() {
  reading_ = false;
  if (phase_ == Phase::handshake) return shake_hands();
  read_more();
}

void Connection::on_writable() {
  writing_ = false;
  if (phase_ == Phase::handshake) return shake_hands();
  flush();
}

void Connection::wake() {
  loop_.post([self = shared_from_this()] { self->flush(); });
}

// --- Reading
// ---------------------------------------------------------------------------------------

void Connection::await_more() {
  const bool full =
      phase_ == Phase::answering && ahead_.size() >= server_.options->max_pipelined_bytes;
  if (reading_ || peer_ended_ || full || phase_ == Phase::closed) return;
  reading_ = true;
  socket_.await_readable(shared_from_this());
}

void Connection::read_more() {
  thread_local std::array<char, kScratchBytes> scratch;
  const auto& limits = *server_.options;
  for (int turn = 0; turn < kReadsAtATime; ++turn) {
    if (phase_ == Phase::closed || peer_ended_) return;
    if (phase_ == Phase::answering && ahead_.size() >= limits.max_pipelined_bytes) return;
    const Moved moved = channel_.read(scratch);
    switch (moved.status) {
      case Io::done: break;
      case Io::want_read:
      case Io::want_write: return await_more();
      case Io::end: return on_end();
      case Io::failed: return close();
    }
    if (phase_ == Phase::lingering) {
      lingered_ += moved.bytes;
      if (lingered_ > kMaxLingered) return close();
      continue;
    }
    ahead_.append(scratch.data(), moved.bytes);
    advance();
  }
  loop_.post([self = shared_from_this()] {
    if (!self->reading_) self->read_more();
  });
}

void Connection::on_end() {
  peer_ended_ = true;
  switch (phase_) {
    case Phase::handshake:
    case Phase::idle:
    case Phase::lingering: return close();
    case Phase::head:
    case Phase::body: return refuse({400, "bad_request", "the request ended too early"});
    // Who half-closes still gets a short answer; whoever leaves a long one does not wait for it.
    case Phase::answering: return exchange_is_long() ? close() : void();
    case Phase::closed: return;
  }
}

void Connection::advance() {
  for (;;) {
    const Phase before = phase_;
    const std::size_t had = ahead_.size();
    switch (phase_) {
      case Phase::idle:
        if (ahead_.empty()) return;
        begin_head();
        break;
      case Phase::head: take_head(); break;
      case Phase::body: take_body(); break;
      default: return;
    }
    if (phase_ == before && ahead_.size() == had) return;  // it needs more bytes
  }
}

void Connection::begin_head() {
  phase_ = Phase::head;
  started_ = now();
  deadline_ = started_ + server_.options->head_timeout;
  scanner_.emplace();
  request_ = std::make_shared<Request>();
  request_->id = new_id();
  request_->remote_address = peer_.to_string();
  head_ = {};
  sent_ = 0;
  ++server_.requests;
}

void Connection::take_head() {
  const auto& limits = *server_.options;
  const HeadScanner::Found found = scanner_->scan(ahead_);
  if (found == HeadScanner::Found::malformed) {
    return refuse({400, "bad_request", "the request's head is malformed"});
  }
  const std::size_t size = found == HeadScanner::Found::complete ? scanner_->size() : ahead_.size();
  if (size > limits.max_head_bytes) {
    if (ahead_.find('\r') > limits.max_target_bytes) {
      return refuse({414, "uri_too_long", "the URL is too long"});
    }
    return refuse({431, "headers_too_large", "the headers are too large"});
  }
  if (found == HeadScanner::Found::more) return;

  const auto malformed = read_request_head(std::string_view(ahead_).substr(0, size),
                                           {limits.max_target_bytes, limits.max_headers}, head_);
  ahead_.erase(0, size);
  scanner_.reset();
  if (malformed) return refuse(*malformed);
  if (const auto problem = read_target()) return refuse(*problem);
  route_request();
}

/// Fills the request from its head.
std::optional<Problem> Connection::read_target() {
  request_->method = std::move(head_.method);
  request_->target = std::move(head_.target);
  request_->headers = std::move(head_.headers);
  if (const auto id = request_->header("X-Request-Id"); id && is_sound_id(*id)) request_->id = *id;
  if (const auto forwarded = request_->header("X-Forwarded-For")) {
    request_->remote_address = client_address(peer_, *forwarded, server_.trusted).to_string();
  }
  std::string_view target = request_->target;
  if (target == "*" && request_->method == "OPTIONS") {
    request_->path = "*";
    return std::nullopt;
  }
  std::string absolute;
  if (!target.starts_with('/')) {  // a proxy's form of request
    const auto url = parse_url(target);
    if (!url) return Problem{400, "bad_request", "the URL is malformed"};
    absolute = url->target();
    target = absolute;
  }
  const std::size_t mark = std::min(target.find('?'), target.size());
  request_->path = target.substr(0, mark);
  auto query = parse_query(target.substr(std::min(mark + 1, target.size())));
  if (!is_sendable(target) || target.find('#') != std::string_view::npos || !query) {
    return Problem{400, "bad_request", "the URL is malformed"};
  }
  request_->query = std::move(*query);
  return std::nullopt;
}

/// Decides who answers, and how much of a body it may have.
void Connection::route_request() {
  // A refusal leaves the connection open only where no body stands before the next request.
  const bool stay = head_.keep_alive && head_.framing.kind == Framing::Kind::none;
  auto match = server_.router.match(request_->method, request_->path);
  if (request_->method == "OPTIONS") return answer_options(std::move(match.allowed));
  if (match.allowed.empty()) return refuse({404, "not_found", "no such path"}, stay);
  if (match.route == nullptr) {
    return refuse({405, "method_not_allowed", "the path has other methods"}, stay,
                  {{"Allow", match.allowed}});
  }
  if (match.undecodable) return refuse({400, "bad_request", "the path is malformed"}, stay);
  route_ = match.route;
  request_->route = route_->pattern;
  request_->parameters = std::move(match.parameters);

  const bool is_long = head_.framing.kind == Framing::Kind::length &&
                       head_.framing.length > route_->options.max_body_bytes;
  if (is_long) return refuse({413, "body_too_large", "the body is too large"});
  if (const auto expected = request_->header("Expect")) {
    if (!equal_ignoring_case(*expected, "100-continue")) {
      return refuse({417, "expectation_failed", "only 100-continue is known"});
    }
    if (!head_.http_1_0 && ahead_.empty() && out_.empty()) {
      out_ = "HTTP/1.1 100 Continue\r\n\r\n";
      flush();
      if (phase_ == Phase::closed) return;
    }
  }
  body_.emplace(head_.framing);
  phase_ = Phase::body;
  deadline_ = now() + server_.options->body_timeout;
  if (body_->complete()) dispatch();
}

void Connection::take_body() {
  std::string_view rest = ahead_;
  while (!body_->complete()) {
    const BodyReader::Piece piece = body_->next(rest);
    if (body_->malformed()) return refuse({400, "bad_request", "the chunks are malformed"});
    if (piece.consumed == 0) break;
    rest.remove_prefix(piece.consumed);
    if (request_->body.size() + piece.data.size() > route_->options.max_body_bytes) {
      return refuse({413, "body_too_large", "the body is too large"});
    }
    body_charge_ += piece.data.size();
    if (server_.body_bytes += piece.data.size();
        server_.body_bytes > server_.options->max_body_bytes_in_all) {
      return refuse({503, "overloaded", "too many bodies at once"}, false, {{"Retry-After", "1"}});
    }
    request_->body += piece.data;
  }
  ahead_.erase(0, ahead_.size() - rest.size());
  if (body_->complete()) dispatch();
}

// --- Answering
// -------------------------------------------------------------------------------------

std::shared_ptr<Exchange> Connection::begin_exchange(bool keep_alive) {
  phase_ = Phase::answering;
  deadline_ = TimePoint::max();
  comment_at_ = now() + server_.options->comment_interval;
  ReplyContext context{request_->id,
                       request_->path,
                       cors_headers(),
                       head_.http_1_0,
                       request_->method == "HEAD",
                       keep_alive && !server_.draining};
  exchange_ = std::make_shared<Exchange>(server_.options, std::move(context), shared_from_this());
  return exchange_;
}

void Connection::dispatch() {
  const auto exchange = begin_exchange(head_.keep_alive);
  WorkerPool& pool = route_->options.long_running ? server_.patient : server_.quick;
  const bool taken = pool.submit(
      [route = route_, request = request_, exchange] { run_handler(*route, *request, exchange); });
  if (taken) return;
  exchange->problem({503, "overloaded", "too many requests at once"}, {{"Retry-After", "1"}});
}

void Connection::refuse(const Problem& problem, bool keep_alive, Headers headers) {
  begin_exchange(keep_alive)->problem(problem, headers);
}

/// OPTIONS: the methods of a path, and what a browser asks before it sends from another site.
void Connection::answer_options(std::string allowed) {
  const bool stay = head_.keep_alive && head_.framing.kind == Framing::Kind::none;
  if (allowed.empty() && request_->path != "*") {
    return refuse({404, "not_found", "no such path"}, stay);
  }
  if (allowed.empty()) allowed = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
  Headers headers{{"Allow", allowed}};
  if (!cors_headers().empty() && request_->header("Access-Control-Request-Method")) {
    headers.add("Access-Control-Allow-Methods", allowed);
    if (const auto wanted = request_->header("Access-Control-Request-Headers")) {
      headers.add("Access-Control-Allow-Headers", *wanted);
    }
    headers.add("Access-Control-Max-Age", "600");
  }
  begin_exchange(stay)->reply({204, "", "", std::move(headers)});
}

std::string Connection::cors_headers() const {
  const auto origin = request_->header("Origin");
  if (!origin) return {};
  for (const std::string& allowed : server_.options->cors.allowed_origins) {
    if (allowed != "*" && allowed != *origin) continue;
    return "Access-Control-Allow-Origin: " + allowed + (allowed == "*" ? "" : "\r\nVary: Origin") +
           "\r\nAccess-Control-Expose-Headers: *\r\n";
  }
  return {};
}

void Connection::flush() {
  if (phase_ == Phase::closed || phase_ == Phase::lingering || writing_) return;
  bool progress = deadline_ == TimePoint::max();
  for (;;) {
    if (out_done_ == out_.size()) {
      out_done_ = 0;
      out_.clear();
      if (exchange_) exchange_->take(out_);
      if (out_.empty()) break;
    }
    const Moved moved = channel_.write(std::string_view(out_).substr(out_done_));
    if (moved.status == Io::done) {
      out_done_ += moved.bytes;
      sent_ += moved.bytes;
      if (exchange_) exchange_->written(moved.bytes);
      progress = true;
      continue;
    }
    if (moved.status != Io::want_write) return close();
    if (progress && phase_ == Phase::answering) deadline_ = now() + server_.options->write_timeout;
    writing_ = true;
    return socket_.await_writable(shared_from_this());
  }
  if (phase_ != Phase::answering) return;
  deadline_ = TimePoint::max();
  if (exchange_->complete()) finish();
}

void Connection::finish() {
  const bool cut = exchange_->cut();
  const bool stay =
      exchange_->keep_alive() && !server_.draining && !(peer_ended_ && ahead_.empty());
  report(cut);
  if (cut) return close();
  if (!stay) return linger();
  phase_ = Phase::idle;
  deadline_ = now() + server_.options->idle_timeout;
  if (ahead_.empty()) ahead_ = {};  // idle connections hold no buffer
  advance();
  if (!reading_) read_more();
}

/// Reads on for a moment: closing with bytes unread would take the answer back from the client.
void Connection::linger() {
  if (peer_ended_) return close();
  phase_ = Phase::lingering;
  deadline_ = now() + kLinger;
  ahead_ = {};
  lingered_ = 0;
  channel_.shutdown_write();
  if (!reading_) read_more();
}

/// Forgets the request, which is answered or never will be.
void Connection::report(bool cut) {
  if (!request_) return;
  const auto exchange = std::exchange(exchange_, nullptr);
  const auto request = std::exchange(request_, nullptr);
  route_ = nullptr;
  body_.reset();
  scanner_.reset();
  out_ = {};
  out_done_ = 0;
  server_.body_bytes -= std::exchange(body_charge_, 0);
  --server_.requests;
  const int status = exchange ? exchange->status() : 0;
  if (exchange) exchange->close();
  if (!server_.options->on_finished) return;
  const auto duration = std::chrono::duration_cast<std::chrono::microseconds>(now() - started_);
  server_.options->on_finished({request->method, request->route, request->id,
                                request->remote_address, status, cut, duration, sent_});
}

// --- Time and end
// ----------------------------------------------------------------------------------

void Connection::check(TimePoint time) {
  if (phase_ == Phase::answering && time >= comment_at_) {
    comment_at_ = time + server_.options->comment_interval;
    exchange_->keep_alive_comment();
  }
  if (time < deadline_) return;
  if (phase_ == Phase::head || phase_ == Phase::body) {
    return refuse({408, "request_timeout", "the request came too slowly"});
  }
  if (phase_ == Phase::idle) channel_.shutdown_write();
  close();
}

void Connection::drain() {
  if (phase_ == Phase::handshake || phase_ == Phase::idle) close();
}

void Connection::close() {
  if (std::exchange(phase_, Phase::closed) == Phase::closed) return;
  report(true);
  socket_.release();
  channel_.close();
  ahead_ = {};
  server_.leave(peer_);
}

}  // namespace farmesh::http
