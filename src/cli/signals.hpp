// SIGINT and SIGTERM as calls on a thread, where they may take locks and print.
#pragma once

#include <functional>
#include <thread>

namespace farmesh::cli {

/// Make one before any other thread is started: the signals are blocked in this thread and in
/// all that it starts, and `on_signal` gets each on a thread of this object's. The destructor
/// waits for a call that runs, and gives the signals their usual effect again.
class Signals {
 public:
  explicit Signals(std::function<void(int)> on_signal);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  void watch();

  std::function<void(int)> on_signal_;
  int signals_ = -1;  // descriptors: signalfd, and eventfd that ends the thread
  int end_ = -1;
  std::thread thread_;
};

}  // namespace farmesh::cli
