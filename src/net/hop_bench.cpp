#include "net/hop_bench.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "base/thread.hpp"
#include "net/bare_tls_echo.hpp"
#include "net/connection.hpp"
#include "net/event.hpp"
#include "net/runtime.hpp"

namespace farmesh::net {
namespace {

using asio::ip::tcp;
using Samples = std::vector<double>;  // microseconds

constexpr int kNearCore = 0;

double microseconds_since(TimePoint start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

TripTimes summary(Samples samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 2], samples[samples.size() * 99 / 100]};
}

// ---- bare: two threads, two sockets, asio's own coroutines ----

class BareEcho {
 public:
  BareEcho(std::size_t bytes, int far_core)
      : bytes_(bytes), far_core_(far_core), near_(near_context_), far_(far_context_) {}

  ~BareEcho() {
    std::error_code ignored;
    near_.shutdown(tcp::socket::shutdown_both, ignored);
    if (thread_.joinable()) thread_.join();
  }

  Result<void> open() {
    std::error_code error;
    tcp::acceptor acceptor(far_context_);
    const tcp::endpoint any(asio::ip::address_v4::loopback(), 0);
    acceptor.open(any.protocol(), error);
    if (!error) acceptor.bind(any, error);
    if (!error) acceptor.listen(1, error);
    if (!error) near_.connect(acceptor.local_endpoint(error), error);
    if (!error) acceptor.accept(far_, error);
    if (error) return {Errc::io_error, "loopback: " + error.message()};
    near_.set_option(tcp::no_delay(true), error);
    far_.set_option(tcp::no_delay(true), error);
    spawn(far_context_.get_executor(), "bare echo", echo(far_, bytes_));
    thread_ = start_thread("fm-echo", [this] {
      pin_this_thread(far_core_);
      far_context_.run();
    });
    return {};
  }

  void run(int trips, Samples& samples) {
    near_context_.restart();
    spawn(near_context_.get_executor(), "bare trips", ping(near_, bytes_, trips, samples));
    near_context_.run();
  }

 private:
  static Task<void> echo(tcp::socket& socket, std::size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    std::error_code error;
    while (!error) {
      auto reading = asio::async_read(socket, asio::buffer(buffer),
                                      asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(reading);
      if (error) co_return;
      auto writing = asio::async_write(socket, asio::buffer(buffer),
                                       asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(writing);
    }
  }

  static Task<void> ping(tcp::socket& socket, std::size_t bytes, int trips, Samples& samples) {
    std::vector<std::byte> buffer(bytes);
    std::error_code error;
    for (int i = 0; i < trips && !error; ++i) {
      const TimePoint start = std::chrono::steady_clock::now();
      auto writing = asio::async_write(socket, asio::buffer(buffer),
                                       asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(writing);
      if (error) co_return;
      auto reading = asio::async_read(socket, asio::buffer(buffer),
                                      asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(reading);
      samples.push_back(microseconds_since(start));
    }
  }

  std::size_t bytes_;
  int far_core_;
  asio::io_context near_context_{1};
  asio::io_context far_context_{1};
  tcp::socket near_;
  tcp::socket far_;
  std::thread thread_;
};

// ---- framed and hop: two network threads, links or connections between them ----

// Counts trips on the near side and starts the next one when an answer has come.
struct Trips {
  std::function<void()> send;
  int left = 0;
  TimePoint started{};
  Samples* samples = nullptr;
  std::shared_ptr<Event> done;

  void next() {
    started = std::chrono::steady_clock::now();
    send();
  }
  void answered() {
    samples->push_back(microseconds_since(started));
    if (--left > 0) return next();
    done->set();
  }
  /// On the near network thread.
  static Task<bool> run(std::shared_ptr<Trips> self, Clock& clock, int trips, Samples& samples) {
    self->left = trips;
    self->samples = &samples;
    self->done = std::make_shared<Event>(clock);
    self->next();
    const std::shared_ptr<Event> done = self->done;
    const bool finished = co_await done->wait(clock.now() + std::chrono::seconds(30));
    co_return finished;
  }
};

wire::Frame step_frame(std::size_t payload_bytes) {
  wire::Step step;
  step.count = 1;
  step.dtype = DType::f32;
  step.route.push_back({"127.0.0.1:31330", {11, 22}});
  AlignedBuffer zeros(payload_bytes);
  std::memset(zeros.data(), 0, payload_bytes);
  wire::Frame frame;
  frame.verb = wire::Verb::step;
  frame.header = wire::encode(step);
  frame.payload = Payload(std::move(zeros));
  return frame;
}

// What a peer that holds no layers does with a step.
Result<wire::Frame> empty_hop(wire::Frame frame) {
  const Result<wire::Step> step = wire::decode<wire::Step>(frame.header);
  if (!step) return step.error();
  const auto columns = static_cast<std::uint32_t>(frame.payload.size() / bytes_of(step->dtype));
  const Result<void> shape = wire::check_tensor(frame.payload, step->count, columns, step->dtype);
  if (!shape) return shape.error();
  const Result<void> finite = wire::check_finite(frame.payload.view(), step->dtype);
  if (!finite) return finite.error();
  wire::StepReply answer;
  answer.session = step->session;
  answer.count = answer.rows = step->count;
  answer.dtype = step->dtype;
  answer.times.push_back({1, 0, step->count});
  frame.reply = true;
  frame.header = wire::encode(answer);
  return frame;
}

class FramedEcho {
 public:
  FramedEcho(std::size_t payload_bytes, int far_core) : payload_bytes_(payload_bytes) {
    near_.run_blocking([] { pin_this_thread(kNearCore); });
    far_.run_blocking([far_core] { pin_this_thread(far_core); });
  }

  ~FramedEcho() {
    near_.run_blocking([this] {
      link_trips_.reset();
      connection_trips_.reset();
      near_link_.reset();
      near_connection_.reset();
    });
    far_.run_blocking([this] {
      listeners_.clear();
      far_link_.reset();
      far_connection_.reset();
    });
  }

  Result<void> open() {
    const Result<void> links = open_links();
    if (!links) return links;
    return open_connections();
  }

  bool run_links(int trips, Samples& samples) { return run(link_trips_, trips, samples); }
  bool run_hops(int trips, Samples& samples) { return run(connection_trips_, trips, samples); }

 private:
  using OnLink = std::function<void(std::shared_ptr<Link>)>;

  bool run(const std::shared_ptr<Trips>& trips, int count, Samples& samples) {
    std::function<Task<bool>()> task = [&] {
      return Trips::run(trips, near_.clock(), count, samples);
    };
    return near_.await_blocking<bool>(std::move(task));
  }

  Result<std::string> listen(OnLink on_link) {
    Result<std::string> address = Error{Errc::io_error, "not listening"};
    far_.run_blocking([&] {
      Result<std::unique_ptr<Listener>> made = far_.tcp().listen("127.0.0.1:0", std::move(on_link));
      if (!made) {
        address = made.error();
        return;
      }
      listeners_.push_back(std::move(*made));
      address = listeners_.back()->address();
    });
    return address;
  }

  Result<void> open_links() {
    const Result<std::string> address = listen([this](std::shared_ptr<Link> link) {
      far_link_ = std::move(link);
      far_link_->start(
          [this](wire::Frame frame) { static_cast<void>(far_link_->send(std::move(frame))); },
          [](Error) {});
    });
    if (!address) return address.error();
    std::function<Task<Result<std::shared_ptr<Link>>>()> dial = [&] {
      return near_.tcp().dial(*address, near_.clock().now() + std::chrono::seconds(5));
    };
    Result<std::shared_ptr<Link>> link =
        near_.await_blocking<Result<std::shared_ptr<Link>>>(std::move(dial));
    if (!link) return link.error();
    near_.run_blocking([&] {
      near_link_ = std::move(*link);
      link_trips_ = std::make_shared<Trips>();
      link_trips_->send = [link = near_link_.get(), frame = step_frame(payload_bytes_)] {
        static_cast<void>(link->send(frame));
      };
      near_link_->start([trips = link_trips_](wire::Frame) { trips->answered(); }, [](Error) {});
    });
    return {};
  }

  Result<void> open_connections() {
    const Result<std::string> address =
        listen([this](std::shared_ptr<Link> link) { accept(std::move(link)); });
    if (!address) return address.error();
    const auto trips = std::make_shared<Trips>();
    std::function<Task<Result<std::shared_ptr<Connection>>>()> connect = [&] {
      return Connection::connect(
          near_.tcp(), *address, identity(),
          [trips](const std::shared_ptr<Connection>&, const wire::Frame&) { trips->answered(); },
          nullptr, near_.clock().now() + std::chrono::seconds(5));
    };
    Result<std::shared_ptr<Connection>> connection =
        near_.await_blocking<Result<std::shared_ptr<Connection>>>(std::move(connect));
    if (!connection) return connection.error();
    near_.run_blocking([&] {
      near_connection_ = std::move(*connection);
      trips->send = [connection = near_connection_.get(), frame = step_frame(payload_bytes_)] {
        static_cast<void>(connection->push(frame));
      };
      connection_trips_ = trips;
    });
    return {};
  }

  void accept(std::shared_ptr<Link> link) {
    Connection::accept(
        std::move(link), far_.clock(), identity(),
        [](const std::shared_ptr<Connection>& from, wire::Frame frame) {
          Result<wire::Frame> answer = empty_hop(std::move(frame));
          if (!answer) return from->fail(answer.error());
          static_cast<void>(from->push(std::move(*answer)));
        },
        nullptr, [this](const std::shared_ptr<Connection>& ready) { far_connection_ = ready; });
  }

  static Connection::Identity identity() {
    Connection::Identity who;
    who.hello = [] { return wire::Hello{}; };
    return who;
  }

  std::size_t payload_bytes_;
  Runtime near_;
  Runtime far_;
  // All are kept: with a listener go the handshakes that its side has not finished yet.
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::shared_ptr<Link> near_link_, far_link_;
  std::shared_ptr<Connection> near_connection_, far_connection_;
  std::shared_ptr<Trips> link_trips_, connection_trips_;
};

// Memory that takes the caches when it is read.
class Weights {
 public:
  explicit Weights(std::size_t bytes) : words_(bytes / sizeof(std::uint64_t), 1) {}
  void read() { sum_ = std::accumulate(words_.begin(), words_.end(), sum_); }

 private:
  std::vector<std::uint64_t> words_;
  volatile std::uint64_t sum_ = 0;
};

Result<HopBenchResult> pinned_hop_bench(const HopBenchOptions& options) {
  pin_this_thread(kNearCore);
  const int far_core = options.two_cores ? kNearCore + 1 : kNearCore;
  BareEcho bare(options.payload_bytes, far_core);
  const Result<void> bare_open = bare.open();
  if (!bare_open) return bare_open.error();
  BareTlsEcho bare_tls(options.payload_bytes, far_core);
  const Result<void> tls_open = bare_tls.open();
  if (!tls_open) return tls_open.error();
  FramedEcho framed(options.payload_bytes, far_core);
  const Result<void> framed_open = framed.open();
  if (!framed_open) return framed_open.error();

  Weights weights(options.read_between);
  Samples bare_us, tls_us, framed_us, hop_us, warm_up;
  for (int round = -1; round < options.rounds; ++round) {
    const bool warming = round < 0;
    weights.read();
    bare.run(options.trips, warming ? warm_up : bare_us);
    weights.read();
    const Result<void> tls_run = bare_tls.run(options.trips, warming ? warm_up : tls_us);
    if (!tls_run) return tls_run.error();
    weights.read();
    bool answered = framed.run_links(options.trips, warming ? warm_up : framed_us);
    weights.read();
    answered = answered && framed.run_hops(options.trips, warming ? warm_up : hop_us);
    if (!answered) return Error{Errc::timeout, "the loopback hop stopped answering"};
  }
  return HopBenchResult{summary(std::move(bare_us)), summary(std::move(tls_us)),
                        summary(std::move(framed_us)), summary(std::move(hop_us))};
}

}  // namespace

// On a thread of its own: the caller keeps its cores.
Result<HopBenchResult> hop_bench(const HopBenchOptions& options) {
  Result<HopBenchResult> result{Errc::ok};
  start_thread("fm-hop-bench", [&] { result = pinned_hop_bench(options); }).join();
  return result;
}

}  // namespace farmesh::net
