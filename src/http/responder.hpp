// What a handler answers with: one whole reply, or a stream of events.
//
// Both are handles on one exchange. They may be moved to another thread and used there; the
// handler need not be running any more. The client may vanish at any moment: nothing fails then,
// what is written goes nowhere, and closed() and on_close() tell.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "http/headers.hpp"

namespace farmesh::http {

class Exchange;

struct Reply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";  // left out when there is no body
  Headers headers;  // besides those the server writes: date, length, connection, CORS, request id
};

/// A refusal of the server's own (404, 413, 503, …), before a body is made of it.
struct Problem {
  int status = 500;
  std::string code;     // stable, such as "not_found"
  std::string message;  // for people
};

/// One server-sent event. Line breaks in `data` are kept by sending several data lines; in `name`
/// and `id` they are dropped.
struct Event {
  std::string_view data;
  std::string_view name = {};  // "event:", left out when empty
  std::string_view id = {};    // "id:", what the client sends back as Last-Event-ID
};

enum class Written {
  yes,
  queue_full,  // by try_write() only
  closed,      // the client hung up, reads nothing, or the server ended the exchange
};

/// A text/event-stream under way. Thread-safe; movable. Destroying it unended breaks the
/// connection off, so that the client sees a cut and not an end.
class EventStream {
 public:
  explicit EventStream(std::shared_ptr<Exchange> exchange) noexcept;
  EventStream(EventStream&&) noexcept = default;
  EventStream& operator=(EventStream&& other) noexcept;
  ~EventStream();

  /// Waits while more than ServerOptions::max_queued_bytes wait for the client to read. A client
  /// that reads nothing for ServerOptions::write_timeout is cut off, which ends the wait.
  Written write(const Event& event);
  /// The same without waiting.
  Written try_write(const Event& event);
  /// A line that clients ignore. The server sends them by itself on streams that are silent.
  Written comment(std::string_view text);

  /// Completes the stream; what is queued is still sent. Further writes answer `closed`.
  void end();

  bool closed() const;
  std::size_t queued_bytes() const;

 private:
  std::shared_ptr<Exchange> exchange_;
};

/// Answers one request, once. Movable. Destroyed without an answer, it sends a 500.
class Responder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange) noexcept;
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&& other) noexcept;
  ~Responder();

  void send(Reply reply);
  /// A reply of application/json; `text` is sent as it is.
  void json(int status, std::string text, Headers headers = {});
  /// A refusal, in the shape that ServerOptions::render gives it.
  void problem(const Problem& problem, const Headers& headers = {});
  /// Answers 200 with text/event-stream. The handle is spent, on_close() goes on.
  EventStream events(Headers headers = {});

  /// The client hung up, or the server ended the exchange: nobody waits for the answer.
  bool closed() const;
  /// Calls `callback` once when closed() becomes true before the answer is complete: at once if it
  /// is so already, else on the server's I/O thread, so it must be short and must not throw.
  /// Replaces the callback set before.
  void on_close(std::function<void()> callback);

 private:
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace farmesh::http
