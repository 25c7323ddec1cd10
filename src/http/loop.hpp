// One thread that waits for sockets, keeps time and runs what is posted to it (Boost.Asio inside).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

namespace farmesh::http {

class Loop {
 public:
  /// `tick` runs on the loop's thread, `period` after period, from the start on.
  Loop(std::string_view thread_name, std::chrono::milliseconds period, std::function<void()> tick);
  /// Stops. Every Socket must be gone by then.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// From any thread.
  void post(std::function<void()> work);

  /// Runs what is posted still, then ends the thread; from another thread. Sockets may be destroyed
  /// on the caller's thread from then on.
  void stop();

  /// Told once after each await_…; on the loop's thread.
  class Ready {
   public:
    virtual void on_readable() = 0;
    virtual void on_writable() = 0;

   protected:
    ~Ready() = default;
  };

  /// Watches a descriptor that another object owns. Confined to the loop's thread.
  class Socket {
   public:
    Socket(Loop& loop, int descriptor);
    ~Socket();

    void await_readable(std::shared_ptr<Ready> who);
    void await_writable(std::shared_ptr<Ready> who);
    /// Forgets the descriptor, which may be closed then; nobody is told any more.
    void release();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farmesh::http
