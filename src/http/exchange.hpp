// One request and its answer, between the handler's thread and the connection's.
//
// The handler's side appends bytes, the connection's takes them; a mutex between. Once closed, what
// is written goes nowhere.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "http/responder.hpp"
#include "http/server.hpp"

namespace farmesh::http {

/// Where an exchange's bytes go. wake() may be called from any thread.
class ReplySink {
 public:
  virtual void wake() = 0;

 protected:
  ~ReplySink() = default;
};

/// What an answer must know of its request.
struct ReplyContext {
  std::string request_id;
  std::string path;          // for ServerOptions::render
  std::string cors_headers;  // whole lines, or empty
  bool http_1_0 = false;
  bool head_only = false;
  bool keep_alive = true;
};

class Exchange {
 public:
  Exchange(std::shared_ptr<const ServerOptions> options, ReplyContext context,
           std::shared_ptr<ReplySink> sink);

  // The handler's side, from any thread.
  void reply(Reply reply);
  void problem(const Problem& problem, const Headers& headers = {});
  void begin_events(const Headers& headers);
  Written put_event(std::string event, bool wait);
  void end();      // completes a stream
  void abandon();  // the handle was dropped: a 500 if nothing was answered, else a cut
  bool closed() const;
  std::size_t queued_bytes() const;
  void on_close(std::function<void()> callback);

  // The connection's side.
  /// Gives what waits in `out`. With nothing there, wake() is called when something comes.
  void take(std::string& out);
  void written(std::size_t bytes);
  /// Sends a comment if the stream has been silent: nothing was put since the last call.
  void keep_alive_comment();
  /// No answer is needed any more: ends waiting writers, calls the callback.
  void close();
  /// Everything was put and taken. `cut`: the handler gave up in between.
  bool complete() const;
  bool cut() const;
  int status() const;
  bool keep_alive() const;

 private:
  std::string head_of(int status, std::string_view content_type, const Headers& headers) const;
  void append(std::string_view bytes);

  const std::shared_ptr<const ServerOptions> options_;
  ReplyContext context_;

  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::shared_ptr<ReplySink> sink_;  // until closed
  std::string pending_;
  std::size_t queued_ = 0;  // pending, and taken but not written
  bool awake_ = false;      // the connection will take without being woken
  bool streaming_ = false;
  bool spoke_ = false;  // since the last look of keep_alive_comment()
  bool ended_ = false;
  bool closed_ = false;
  bool cut_ = false;
  int status_ = 0;  // 0: not answered yet
  std::function<void()> on_close_;
};

/// The default of ServerOptions::render.
Reply render_problem(const Problem& problem);

}  // namespace farmesh::http
