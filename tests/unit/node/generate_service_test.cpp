#include "node/generate_service.hpp"

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/digest.hpp"
#include "client/remote_runner.hpp"
#include "net/event.hpp"
#include "unit/node/stand_in_model.hpp"

namespace farmesh::node {
namespace {

using namespace std::chrono_literals;

// A peer with a head over TCP, and a client's connection to it.
class Headed {
 public:
  Headed() : worker_(test::make_worker(runtime_)) {
    runtime_.run_blocking([this] {
      service_ = std::make_unique<GenerateService>(
          runtime_, *worker_, test::shared_model(runtime_, *worker_), driver::PeerSetOptions{},
          std::vector<std::string>{});
      peer_ = std::make_unique<serve::Peer>(runtime_.tcp(), *worker_, test::peer_options(runtime_),
                                            service_.get());
      const Result<std::string> address = peer_->listen("127.0.0.1:0");
      REQUIRE(address);
      address_ = *address;
      service_->serve_own(address_);
    });
    std::function<net::Task<void>()> dial = [this] { return connect(); };
    runtime_.await_blocking<void>(std::move(dial));
    REQUIRE(client_);
  }

  ~Headed() {
    runtime_.run_blocking([this] {
      if (client_) client_->close();
      client_.reset();
    });
    std::function<net::Task<void>()> close = [this] { return service_->close_all(); };
    runtime_.await_blocking<void>(std::move(close));
    runtime_.run_blocking([this] {
      peer_.reset();
      service_.reset();
      worker_.reset();
    });
  }

  net::Runtime& runtime() { return runtime_; }

  /// Sends a request and waits for the frame that ends it.
  wire::Frame ask(const wire::Generate& request, const std::vector<TokenId>& ids) {
    std::function<net::Task<wire::Frame>()> asking = [this, request, ids] {
      return exchange(request, ids);
    };
    return runtime_.await_blocking<wire::Frame>(std::move(asking));
  }

  /// Sends a request, waits for its first token, and breaks the connection.
  void ask_and_leave(const wire::Generate& request, const std::vector<TokenId>& ids) {
    std::function<net::Task<void>()> asking = [this, request, ids] {
      return first_token(request, ids);
    };
    runtime_.await_blocking<void>(std::move(asking));
    runtime_.run_blocking([this] {
      client_->close();
      client_.reset();
    });
  }

  std::uint32_t sessions() {
    std::uint32_t sessions = 0;
    runtime_.run_blocking([&] { sessions = peer_->stats().sessions; });
    return sessions;
  }

  std::vector<wire::TokenMessage> tokens;  // of the last exchange

 private:
  net::Task<void> connect() {
    net::Connection::Identity identity;
    identity.hello = [] { return wire::Hello{}; };
    auto on_frame = [this](const std::shared_ptr<net::Connection>&, wire::Frame frame) {
      frames_.push_back(std::move(frame));
      arrived_.set();
    };
    auto on_close = [](const std::shared_ptr<net::Connection>&, const Error&) {};
    auto connecting = net::Connection::connect(runtime_.tcp(), address_, identity, on_frame,
                                               on_close, runtime_.clock().now() + 5s);
    const auto connected = co_await std::move(connecting);
    if (connected) client_ = *connected;
  }

  void push(const wire::Generate& request, const std::vector<TokenId>& ids) {
    wire::Frame frame;
    frame.verb = wire::Verb::generate;
    frame.stream = client_->new_stream();
    frame.header = wire::encode(request);
    frame.payload = Payload::copy_of(std::as_bytes(std::span(ids)));
    CHECK(client_->push(std::move(frame)));
  }

  net::Task<wire::Frame> next_frame() {
    while (frames_.empty()) {
      arrived_.reset();
      const bool in_time = co_await arrived_.wait(runtime_.clock().now() + 20s);
      if (!in_time) co_return wire::Frame{};  // a ping: never what a test expects
    }
    wire::Frame next = std::move(frames_.front());
    frames_.erase(frames_.begin());
    co_return next;
  }

  net::Task<wire::Frame> exchange(wire::Generate request, std::vector<TokenId> ids) {
    tokens.clear();
    push(request, ids);
    for (;;) {
      wire::Frame frame = co_await next_frame();
      if (frame.verb != wire::Verb::token) co_return frame;
      const auto token = wire::decode<wire::TokenMessage>(frame.header);
      if (!token || !token->has_token) co_return frame;
      tokens.push_back(*token);
    }
  }

  net::Task<void> first_token(wire::Generate request, std::vector<TokenId> ids) {
    push(request, ids);
    const wire::Frame frame = co_await next_frame();
    CHECK(frame.verb == wire::Verb::token);
  }

  net::Runtime runtime_;
  std::unique_ptr<serve::Worker> worker_;
  std::unique_ptr<GenerateService> service_;
  std::unique_ptr<serve::Peer> peer_;
  std::string address_;
  std::shared_ptr<net::Connection> client_;
  std::vector<wire::Frame> frames_;
  net::Event arrived_{runtime_.clock()};
};

wire::Generate request(std::uint32_t prompt_tokens, std::uint32_t max_tokens) {
  wire::Generate request;
  random_bytes(request.session.bytes);
  request.prompt_tokens = prompt_tokens;
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  return request;
}

Errc code_of(const wire::Frame& frame) {
  if (frame.verb == wire::Verb::token) return Errc::ok;
  REQUIRE(frame.verb == wire::Verb::error);
  return wire::decode<wire::ErrorMessage>(frame.header)->code;
}

}  // namespace

TEST_SUITE("node/generate_service") {
  TEST_CASE("a client without a head gets the tokens of one engine alone") {
    Headed head;
    const std::vector<TokenId> prompt{1, 40, 41, 42};
    const wire::Frame end = head.ask(request(4, 30), prompt);
    CHECK(wire::decode<wire::TokenMessage>(end.header)->finish == wire::Finish::length);
    std::vector<TokenId> ids = prompt;
    for (const wire::TokenMessage& token : head.tokens) {
      CHECK(token.index + 4 == ids.size());
      ids.push_back(token.id);
    }
    CHECK(ids == test::reference(prompt, 30));
    CHECK(head.tokens.at(0).route.size() == 1);
  }

  TEST_CASE("a second turn of the session goes on; emitted tokens count as this turn's") {
    Headed head;
    const std::vector<TokenId> all = test::reference({1, 40}, 20);
    wire::Generate first = request(2, 10);
    CHECK(code_of(head.ask(first, {1, 40})) == Errc::ok);
    first.prompt_tokens = 12;
    CHECK(code_of(head.ask(first, {all.begin(), all.begin() + 12})) == Errc::ok);
    REQUIRE(head.tokens.size() == 10);
    CHECK(head.tokens.back().id == all.back());

    wire::Generate taken_over = request(15, 20);
    taken_over.emitted_tokens = 13;
    CHECK(code_of(head.ask(taken_over, {all.begin(), all.begin() + 15})) == Errc::ok);
    REQUIRE(head.tokens.size() == 7);
    CHECK(head.tokens.front().index == 13);
    CHECK(head.tokens.back().id == all.back());
  }

  TEST_CASE("requests that contradict themselves are refused, and the next is served") {
    Headed head;
    CHECK(code_of(head.ask(request(4, 5), {1, 40})) == Errc::bad_shape);
    CHECK(code_of(head.ask(request(0, 5), {})) == Errc::invalid_argument);
    CHECK(code_of(head.ask(request(1, 5), {4'000'000})) == Errc::invalid_argument);
    const std::vector<TokenId> long_prompt(test::kContext + 1, 40);
    CHECK(code_of(head.ask(request(test::kContext + 1, 5), long_prompt)) == Errc::context_exceeded);
    CHECK(code_of(head.ask(request(1, 5), {1})) == Errc::ok);
  }

  TEST_CASE("one session more than the head may run is told busy") {
    Headed head;
    for (std::size_t i = 0; i < kMaxServedSessions; ++i) {
      REQUIRE(code_of(head.ask(request(1, 0), {1})) == Errc::ok);
    }
    CHECK(code_of(head.ask(request(1, 0), {1})) == Errc::busy);
  }

  TEST_CASE("a client that leaves in mid-turn leaves nothing behind") {
    Headed head;
    head.ask_and_leave(request(1, test::kContext - 1), {1});
    for (int looks = 0; head.sessions() > 0 && looks < 10'000; ++looks) std::this_thread::yield();
    CHECK(head.sessions() == 0);
  }
}

}  // namespace farmesh::node
