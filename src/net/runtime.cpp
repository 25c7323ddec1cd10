#include "net/runtime.hpp"

#include <optional>
#include <thread>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>

#include "base/assert.hpp"
#include "base/thread.hpp"
#include "net/tcp_transport.hpp"

namespace farmesh::net {
namespace {

// Handlers run at shutdown: enough for closes to be told, not so many that one which always
// posts another could hold the process.
constexpr int kLastHandlers = 100'000;

}  // namespace

// Destroyed in the order thread (joined), transport, clock, context: see clock.hpp.
struct Runtime::Impl {
  explicit Impl(const identity::Credentials& self)
      : clock(make_real_clock(context)),
        tcp(make_tcp_transport(context, *clock, self)),
        node_id(self.key.id()) {
    thread = start_thread("fm-net", [this] { run(); });
  }

  ~Impl() {
    FARMESH_ASSERT(!on_thread());
    asio::post(context, [this] { context.stop(); });
    thread.join();
  }

  void run() {
    const auto work = asio::make_work_guard(context);
    context.run();
    context.restart();
    for (int i = 0; i < kLastHandlers && context.poll_one() > 0; ++i) {
    }
  }

  bool on_thread() const noexcept { return std::this_thread::get_id() == thread.get_id(); }

  asio::io_context context{1};  // one thread runs it
  std::unique_ptr<Clock> clock;
  std::unique_ptr<Transport> tcp;
  const NodeId node_id;
  std::thread thread;
};

Runtime::Runtime(const identity::Credentials& self) : impl_(std::make_unique<Impl>(self)) {}
Runtime::~Runtime() = default;

Executor Runtime::executor() noexcept { return impl_->context.get_executor(); }
Clock& Runtime::clock() noexcept { return *impl_->clock; }
Transport& Runtime::tcp() noexcept { return *impl_->tcp; }
const NodeId& Runtime::node_id() const noexcept { return impl_->node_id; }

void Runtime::run_blocking(const std::function<void()>& fn) {
  FARMESH_ASSERT(!impl_->on_thread());
  std::promise<void> done;
  std::future<void> waited = done.get_future();
  asio::post(impl_->context, [&] {
    fn();
    done.set_value();
  });
  waited.get();
}

void Runtime::start(Task<void> task) {
  FARMESH_ASSERT(!impl_->on_thread());
  spawn(executor(), "await_blocking", std::move(task));
}

}  // namespace farmesh::net
