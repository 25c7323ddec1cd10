#include "net/clock.hpp"

#include <algorithm>
#include <vector>

#include <asio/steady_timer.hpp>

#include "net/event.hpp"

namespace farmesh::net {

Task<void> Clock::sleep_until(TimePoint when) {
  Event never(*this);
  co_await never.wait(when);
}

namespace {

class RealClock final : public Clock {
 public:
  explicit RealClock(asio::io_context& context) : state_(std::make_shared<State>(context)) {}

  ~RealClock() override {
    // What the timers own may set or cancel others while it is destroyed.
    while (!state_->timers.empty()) const auto dropped = std::exchange(state_->timers, {});
  }

  TimePoint now() const override { return std::chrono::steady_clock::now(); }

  TimerId call_at(TimePoint when, std::function<void()> fn) override {
    const TimerId id = state_->next_id++;
    state_->timers.emplace(std::pair(when, id), std::move(fn));
    state_->due.emplace(id, when);
    state_->arm();
    return id;
  }

  void cancel(TimerId id) override {
    const auto due = state_->due.find(id);
    if (due == state_->due.end()) return;
    const auto key = std::pair(due->second, id);
    state_->due.erase(due);
    // The asio timer stays armed: a wake-up with nothing due is cheaper than moving it each time.
    const auto cancelled = state_->timers.extract(key);
  }

  Executor executor() override { return state_->context.get_executor(); }

 private:
  // Shared with the asio timer's handler, which may run once more after the clock has gone.
  struct State : std::enable_shared_from_this<State> {
    explicit State(asio::io_context& c) : context(c), timer(c) {}

    void arm() {
      if (timers.empty()) return;
      const TimePoint first = timers.begin()->first.first;
      if (first == TimePoint::max() || first >= armed) return;
      armed = first;
      timer.expires_at(first);
      timer.async_wait([weak = weak_from_this()](std::error_code error) {
        const auto self = weak.lock();
        if (self && !error) self->fire();
      });
    }

    void fire() {
      armed = TimePoint::max();
      const TimePoint now = std::chrono::steady_clock::now();
      const TimerId newest = next_id;  // timers set from here on wait for their own wake-up
      while (!timers.empty() && timers.begin()->first <= std::pair(now, newest)) {
        if (timers.begin()->first.second >= newest) break;
        auto timer_node = timers.extract(timers.begin());
        due.erase(timer_node.key().second);
        timer_node.mapped()();
      }
      arm();
    }

    asio::io_context& context;
    asio::steady_timer timer;
    TimePoint armed = TimePoint::max();
    TimerId next_id = 1;
    std::map<std::pair<TimePoint, TimerId>, std::function<void()>> timers;
    std::map<TimerId, TimePoint> due;
  };

  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Clock> make_real_clock(asio::io_context& context) {
  return std::make_unique<RealClock>(context);
}

SkewedClock::SkewedClock(Clock& base, double drift, Duration ahead)
    : base_(base), rate_(1 + drift), ahead_(ahead), start_(base.now()) {}

TimePoint SkewedClock::now() const {
  const std::chrono::duration<double, Duration::period> passed(base_.now() - start_);
  return start_ + ahead_ + std::chrono::duration_cast<Duration>(passed * rate_);
}

TimePoint SkewedClock::base_time(TimePoint when) const {
  // Times that stand for never or always do so on any clock.
  constexpr Duration kFar = std::chrono::hours(24 * 365 * 10);
  if (when > start_ + kFar || when < start_ - kFar) return when;
  const std::chrono::duration<double, Duration::period> passed(when - start_ - ahead_);
  return start_ + std::chrono::ceil<Duration>(passed / rate_);
}

TimerId SkewedClock::call_at(TimePoint when, std::function<void()> fn) {
  return base_.call_at(base_time(when), std::move(fn));
}

void SkewedClock::cancel(TimerId id) { base_.cancel(id); }

Executor SkewedClock::executor() { return base_.executor(); }

SimClock::SimClock(asio::io_context& context) : context_(context) {}

SimClock::~SimClock() {
  while (!timers_.empty()) const auto dropped = std::exchange(timers_, {});
}

TimePoint SimClock::now() const { return now_; }

TimerId SimClock::call_at(TimePoint when, std::function<void()> fn) {
  const TimerId id = next_id_++;
  const TimePoint due = std::max(when, now_);
  timers_.emplace(std::pair(due, id), std::move(fn));
  due_.emplace(id, due);
  return id;
}

void SimClock::cancel(TimerId id) {
  const auto due = due_.find(id);
  if (due == due_.end()) return;
  const auto key = std::pair(due->second, id);
  due_.erase(due);
  const auto cancelled = timers_.extract(key);
}

Executor SimClock::executor() { return context_.get_executor(); }

bool SimClock::run_until(const std::function<bool()>& done, TimePoint deadline) {
  for (;;) {
    if (done()) return true;
    context_.restart();
    if (context_.poll_one() > 0) continue;
    if (timers_.empty()) return false;
    const TimePoint next = timers_.begin()->first.first;
    if (next == TimePoint::max()) return false;  // waits that only an event ends
    if (next > deadline) {
      now_ = std::max(now_, deadline);
      return false;
    }
    now_ = std::max(now_, next);
    auto timer = timers_.extract(timers_.begin());
    due_.erase(timer.key().second);
    timer.mapped()();
  }
}

}  // namespace farmesh::net
