// Peers as processes have them: network and compute threads, and TCP between.
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "net/event.hpp"
#include "net/runtime.hpp"
#include "serve/peer.hpp"
#include "unit/serve/serve_rig.hpp"

namespace farmesh::serve {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::embed;
using test::kAllLayers;
using test::session_id;
using test::Solo;
using test::Tokens;

constexpr ModelHash kModel{{7}};
constexpr std::uint32_t kSessions = 4;
constexpr std::uint32_t kSteps = 12;

/// A peer with two threads of its own.
class Process {
 public:
  explicit Process(Span blocks) : blocks_(blocks) {
    runtime_.run_blocking([this] {
      worker_ = *Worker::create(std::make_unique<test::ProbeEngine>(log_, blocks_),
                                *make_compute_thread(runtime_.clock()), runtime_.clock(), {});
      PeerOptions options;
      options.model_hash = kModel;
      options.num_layers = kAllLayers.end;
      peer_ = std::make_unique<Peer>(runtime_.tcp(), *worker_, options);
      address_ = *peer_->listen("127.0.0.1:0");
    });
  }
  ~Process() { end(); }

  void end() {
    runtime_.run_blocking([this] {
      peer_.reset();
      worker_.reset();
    });
  }

  wire::Hop hop() const { return {address_, blocks_}; }

 private:
  Span blocks_;
  std::shared_ptr<test::ProbeEngine::Log> log_ = std::make_shared<test::ProbeEngine::Log>();
  net::Runtime runtime_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Peer> peer_;
  std::string address_;
};

/// Lives on its own network thread; decodes all sessions at once.
class Driver : public std::enable_shared_from_this<Driver> {
 public:
  Driver(net::Runtime& runtime, std::vector<wire::Hop> hops)
      : runtime_(runtime), hops_(std::move(hops)), ended_(runtime.clock()) {}

  static net::Task<Errc> run(std::shared_ptr<Driver> self) {
    for (const wire::Hop& hop : self->hops_) {
      auto connecting = self->connect(hop.address);
      auto connection = co_await std::move(connecting);
      if (!connection) co_return connection.error().code;
      self->connections_.push_back(*connection);
      for (std::uint32_t session = 0; session < kSessions; ++session) {
        wire::Open open;
        open.session = session_id(session);
        open.span = hop.span;
        open.max_positions = 64;
        open.model_hash = kModel;
        auto opening = (*connection)
                           ->call(wire::Verb::open, wire::encode(open), {},
                                  self->runtime_.clock().now() + 10s);
        const auto reply = co_await std::move(opening);
        if (!reply) co_return reply.error().code;
      }
    }
    for (std::uint32_t session = 0; session < kSessions; ++session) self->send(session);
    const bool done = co_await self->ended_.wait(self->runtime_.clock().now() + 30s);
    co_return done ? self->told_ : Errc::timeout;
  }

  static Tokens ids(std::uint32_t session, std::uint32_t step) {
    return test::text(session + step, step == 0 ? 17 : 1);
  }
  const std::vector<Bytes>& outputs(std::uint32_t session) const { return outputs_[session]; }

 private:
  net::Task<Result<std::shared_ptr<net::Connection>>> connect(const std::string& address) {
    net::Connection::Identity identity;
    identity.hello = [] { return wire::Hello(); };
    return net::Connection::connect(
        runtime_.tcp(), address, std::move(identity),
        [this](const auto&, wire::Frame frame) { take(frame); }, [](const auto&, const Error&) {},
        runtime_.clock().now() + 10s);
  }

  void send(std::uint32_t session) {
    const std::uint32_t step = static_cast<std::uint32_t>(outputs_[session].size());
    wire::Step message;
    message.session = session_id(session);
    message.position = step == 0 ? 0 : 16 + step;
    message.count = step == 0 ? 17 : 1;
    message.dtype = DType::f32;
    message.want = wire::Want::all_rows;
    message.route.assign(hops_.begin() + 1, hops_.end());
    wire::Frame frame;
    frame.verb = wire::Verb::step;
    frame.header = wire::encode(message);
    frame.payload = embed(ids(session, step));
    const auto sent = connections_[0]->push(std::move(frame));
    if (!sent) end(sent.error().code);
  }

  void take(const wire::Frame& frame) {
    if (frame.verb == wire::Verb::error) {
      const auto message = wire::decode<wire::ErrorMessage>(frame.header);
      return end(message ? message->code : message.error().code);
    }
    const auto reply = wire::decode<wire::StepReply>(frame.header);
    if (!reply) return end(reply.error().code);
    const std::uint32_t session = reply->session.bytes[4];
    outputs_[session].push_back(test::bytes_of(frame.payload));
    if (outputs_[session].size() < kSteps) return send(session);
    if (++complete_ == kSessions) end(Errc::ok);
  }

  void end(Errc code) {
    told_ = code;
    ended_.set();
  }

  net::Runtime& runtime_;
  std::vector<wire::Hop> hops_;
  std::vector<std::shared_ptr<net::Connection>> connections_;
  net::Event ended_;
  Errc told_ = Errc::ok;
  std::vector<Bytes> outputs_[kSessions];
  std::uint32_t complete_ = 0;
};

Errc run(net::Runtime& runtime, const std::shared_ptr<Driver>& driver) {
  std::function<net::Task<Errc>()> task = [driver] { return Driver::run(driver); };
  return runtime.await_blocking<Errc>(std::move(task));
}

}  // namespace

TEST_SUITE("serve/peer threads") {
  TEST_CASE("over TCP, sessions at once compute what each would alone") {
    Process a({0, 2}), b({2, 5}), c({5, 6});
    net::Runtime runtime;
    std::shared_ptr<Driver> driver;
    runtime.run_blocking([&] {
      driver = std::make_shared<Driver>(runtime, std::vector{a.hop(), b.hop(), c.hop()});
    });
    CHECK(run(runtime, driver) == Errc::ok);
    for (std::uint32_t session = 0; session < kSessions; ++session) {
      Solo solo;
      std::uint32_t position = 0;
      REQUIRE(driver->outputs(session).size() == kSteps);
      for (std::uint32_t step = 0; step < kSteps; ++step) {
        const Tokens ids = Driver::ids(session, step);
        CHECK(driver->outputs(session)[step] == solo.run(position, embed(ids)));
        position += static_cast<std::uint32_t>(ids.size());
      }
    }
    runtime.run_blocking([&] { driver.reset(); });
  }

  TEST_CASE("over TCP, a peer that ends while rows are on their way is told of as lost") {
    Process a({0, 2}), b({2, 6});
    const wire::Hop gone = b.hop();
    net::Runtime runtime;
    std::shared_ptr<Driver> driver;
    runtime.run_blocking([&] {
      driver = std::make_shared<Driver>(runtime, std::vector{a.hop(), gone});
    });
    std::thread killer([&] { b.end(); });
    const Errc told = run(runtime, driver);
    killer.join();
    // Whatever the moment was: refused, cut off, or told by the hop before; never silence.
    CHECK(told != Errc::timeout);
    runtime.run_blocking([&] { driver.reset(); });
  }
}

}  // namespace farmesh::serve
