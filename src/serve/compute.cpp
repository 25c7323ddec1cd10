#include "serve/compute.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>

#include "base/log.hpp"
#include "base/thread.hpp"
#include "net/mailbox.hpp"

namespace farmesh::serve {
namespace {

class ComputeThread final : public Compute {
 public:
  explicit ComputeThread(std::unique_ptr<net::Mailbox> network)
      : network_(std::move(network)),
        thread_(start_thread("fm-compute", [this] { queue_.run(); })) {}

  ~ComputeThread() override {
    *dropped_ = true;
    queue_.stop();
    thread_.join();
  }

  void run(std::uint32_t, std::function<void()> work, std::function<void()> done) override {
    std::function<void()> end = [dropped = dropped_, done = std::move(done)] {
      if (!*dropped) done();
    };
    asio::post(queue_, [this, work = std::move(work), end = std::move(end)]() mutable {
      work();
      work = nullptr;  // what it holds ends here, before anybody hears of the result
      network_->post(std::move(end));
    });
  }

 private:
  const std::unique_ptr<net::Mailbox> network_;
  std::shared_ptr<bool> dropped_ = std::make_shared<bool>(false);  // for the network thread
  asio::io_context queue_{1};
  asio::executor_work_guard<asio::io_context::executor_type> open_ = asio::make_work_guard(queue_);
  std::thread thread_;
};

class SimCompute final : public Compute {
 public:
  SimCompute(net::Clock& clock, Duration base, Duration per_row)
      : clock_(clock), base_(base), per_row_(per_row) {}

  ~SimCompute() override {
    for (const auto& [number, timer] : timers_) clock_.cancel(timer);
  }

  void run(std::uint32_t rows, std::function<void()> work, std::function<void()> done) override {
    free_at_ = std::max(free_at_, clock_.now()) + base_ + rows * per_row_;
    const std::uint64_t number = next_number_++;
    timers_[number] =
        clock_.call_at(free_at_, [this, number, work = std::move(work), done = std::move(done)] {
          timers_.erase(number);
          const auto end = done;  // outlives this object, which it may destroy
          work();
          end();
        });
  }

 private:
  net::Clock& clock_;
  Duration base_;
  Duration per_row_;
  TimePoint free_at_{};
  std::uint64_t next_number_ = 0;
  std::map<std::uint64_t, net::TimerId> timers_;
};

}  // namespace

Result<void> caught(const std::function<Result<void>()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return {Errc::out_of_memory, "in a forward pass"};
  } catch (const std::exception& exception) {
    log(LogLevel::error, "serve", std::string("forward pass: ") + exception.what());
    return {Errc::compute_failed, "the engine raised an exception"};
  }
}

Result<std::unique_ptr<Compute>> make_compute_thread(net::Clock& clock) {
  Result<std::unique_ptr<net::Mailbox>> network = net::Mailbox::create(clock.executor());
  if (!network) return network.error();
  return std::unique_ptr<Compute>(std::make_unique<ComputeThread>(*std::move(network)));
}

std::unique_ptr<Compute> make_sim_compute(net::Clock& clock, Duration base, Duration per_row) {
  return std::make_unique<SimCompute>(clock, base, per_row);
}

}  // namespace farmesh::serve
