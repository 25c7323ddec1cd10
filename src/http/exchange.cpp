#include "http/exchange.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

#include "base/assert.hpp"

namespace farmesh::http {
namespace {

std::string_view reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "";  // the phrase means nothing to programs
  }
}

/// IMF-fixdate (RFC 9110, section 5.6.7).
std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return {text, size};
}

/// A header's value that a handler gave: without what would begin another line.
void append_value(std::string& out, std::string_view value) {
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back((byte < ' ' && c != '\t') || byte == 127 ? ' ' : c);
  }
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  append_value(out, name);
  out += ": ";
  append_value(out, value);
  out += "\r\n";
}

std::string chunk_of(std::string_view data) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof(digits), data.size(), 16).ptr;
  std::string chunk;
  chunk.reserve(data.size() + 20);
  chunk.append(digits, end).append("\r\n").append(data).append("\r\n");
  return chunk;
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.append({'\\', c});
    } else if (byte < ' ') {
      out.append("\\u00").append({kDigits[byte >> 4], kDigits[byte & 15]});
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

}  // namespace

Reply render_problem(const Problem& problem) {
  std::string body = "{\"error\":";
  append_json_string(body, problem.message);
  body += ",\"code\":";
  append_json_string(body, problem.code);
  body += "}";
  return {.status = problem.status, .body = std::move(body)};
}

Exchange::Exchange(std::shared_ptr<const ServerOptions> options, ReplyContext context,
                   std::shared_ptr<ReplySink> sink)
    : options_(std::move(options)), context_(std::move(context)), sink_(std::move(sink)) {}

std::string Exchange::head_of(int status, std::string_view content_type,
                              const Headers& headers) const {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " ";
  head.append(reason_of(status)).append("\r\nDate: ").append(http_date()).append("\r\n");
  if (!content_type.empty()) append_header(head, "Content-Type", content_type);
  append_header(head, "X-Request-Id", context_.request_id);
  head += context_.cors_headers;
  if (!context_.keep_alive) head += "Connection: close\r\n";
  for (const auto& [name, value] : headers) append_header(head, name, value);
  return head;
}

/// With the mutex held, so that no wake() is under way once close() has returned.
void Exchange::append(std::string_view bytes) {
  pending_ += bytes;
  queued_ += bytes.size();
  if (!std::exchange(awake_, true)) sink_->wake();
}

void Exchange::reply(Reply reply) {
  const bool bodiless = reply.status == 204 || reply.status == 304;
  std::string head =
      head_of(reply.status, reply.body.empty() ? "" : reply.content_type, reply.headers);
  if (!bodiless) head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
  head += "\r\n";
  if (!bodiless && !context_.head_only) head += reply.body;
  const std::lock_guard lock(mutex_);
  FARMESH_ASSERT(status_ == 0);
  status_ = reply.status;
  ended_ = true;
  if (!closed_) append(head);
}

void Exchange::problem(const Problem& problem, const Headers& headers) {
  Reply answer =
      options_->render ? options_->render(problem, context_.path) : render_problem(problem);
  for (const auto& [name, value] : headers) answer.headers.add(name, value);
  reply(std::move(answer));
}

void Exchange::begin_events(const Headers& headers) {
  std::string head = head_of(200, "text/event-stream", headers);
  head += "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";  // proxies must not hold it back
  if (!context_.http_1_0) head += "Transfer-Encoding: chunked\r\n";
  head += "\r\n";
  const std::lock_guard lock(mutex_);
  FARMESH_ASSERT(status_ == 0);
  status_ = 200;
  streaming_ = true;
  spoke_ = true;
  ended_ = context_.head_only;
  if (!closed_) append(head);
}

Written Exchange::put_event(std::string event, bool wait) {
  const std::string bytes = context_.http_1_0 ? std::move(event) : chunk_of(event);
  std::unique_lock lock(mutex_);
  const auto has_room = [&] {
    return closed_ || ended_ || queued_ == 0 ||
           queued_ + bytes.size() <= options_->max_queued_bytes;
  };
  if (!has_room() && !wait) return Written::queue_full;
  room_.wait(lock, has_room);  // the connection closes us when the client reads nothing
  if (closed_ || ended_) return Written::closed;
  spoke_ = true;
  append(bytes);
  return Written::yes;
}

void Exchange::end() {
  const std::lock_guard lock(mutex_);
  if (closed_ || ended_) return;
  ended_ = true;
  append(context_.http_1_0 ? "" : "0\r\n\r\n");
}

void Exchange::abandon() {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || ended_) return;
    if (status_ != 0) {
      ended_ = true;
      cut_ = true;
      append("");
      return;
    }
  }
  problem({500, "internal_error", "the request could not be answered"});
}

bool Exchange::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_ || (streaming_ && ended_);
}

std::size_t Exchange::queued_bytes() const {
  const std::lock_guard lock(mutex_);
  return queued_;
}

void Exchange::on_close(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      on_close_.swap(callback);
      return;
    }
  }
  if (callback) callback();
}

void Exchange::take(std::string& out) {
  const std::lock_guard lock(mutex_);
  awake_ = !pending_.empty();
  out.clear();
  out.swap(pending_);
}

void Exchange::written(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  queued_ -= std::min(queued_, bytes);  // some may be the connection's own, or from before close()
  room_.notify_all();
}

void Exchange::keep_alive_comment() {
  const std::lock_guard lock(mutex_);
  if (!streaming_ || closed_ || ended_ || std::exchange(spoke_, false) || queued_ > 0) return;
  append(context_.http_1_0 ? ":\n\n" : "3\r\n:\n\n\r\n");
}

void Exchange::close() {
  std::function<void()> callback;
  std::shared_ptr<ReplySink> sink;  // both may own handles on this exchange: not under the mutex
  bool unanswered = false;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    unanswered = !ended_;
    callback.swap(on_close_);
    sink.swap(sink_);
    pending_ = {};
    queued_ = 0;
    room_.notify_all();
  }
  if (unanswered && callback) callback();
}

bool Exchange::complete() const {
  const std::lock_guard lock(mutex_);
  return ended_ && pending_.empty();
}

bool Exchange::cut() const {
  const std::lock_guard lock(mutex_);
  return cut_;
}

int Exchange::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

bool Exchange::keep_alive() const { return context_.keep_alive && !context_.http_1_0 && !cut(); }

}  // namespace farmesh::http
