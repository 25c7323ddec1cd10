// Two connections that talk, or one whose remote is in the test's hands.
#pragma once

#include <optional>
#include <vector>

#include "net/connection.hpp"
#include "unit/net/link_worlds.hpp"

namespace farmesh::test {

using ConnectionPtr = std::shared_ptr<net::Connection>;

// One side of a conversation: what it was handed, and how it ended.
struct Side {
  ConnectionPtr connection;
  std::vector<wire::Frame> frames;
  std::vector<Error> closes;
  std::function<void(const ConnectionPtr&, const wire::Frame&)> on_frame;

  net::Connection::FrameHandler frame_handler() {
    return [this](const ConnectionPtr& from, wire::Frame frame) {
      frames.push_back(frame);
      if (on_frame) on_frame(from, frame);
    };
  }
  net::Connection::CloseHandler close_handler() {
    return [this](const ConnectionPtr&, const Error& error) { closes.push_back(error); };
  }
};

// Two sides over a pipe, both past hello.
struct Pair {
  Loop loop;
  Side near;
  Side far;

  explicit Pair(net::ConnectionOptions options = {}) {
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    net::Connection::accept(
        far_end, loop.clock, identity("far"), far.frame_handler(), far.close_handler(),
        [this](const ConnectionPtr& ready) { far.connection = ready; }, options);
    Result<ConnectionPtr> dialled = loop.run(
        net::Connection::connect_over(near_end, loop.clock, identity("near"), near.frame_handler(),
                                      near.close_handler(), loop.after(1s), options));
    REQUIRE(dialled);
    near.connection = *dialled;
    REQUIRE(far.connection);
  }

  Result<wire::Frame> call(Duration timeout = 1s) {
    return loop.run(near.connection->call(wire::Verb::open, {}, {}, loop.after(timeout)));
  }

  /// Both sides have been told of the end.
  void until_closed() {
    loop.until([&] { return !near.closes.empty() && !far.closes.empty(); });
  }
};

// A connection whose remote is a link in the test's hands.
struct Scripted {
  Loop loop;
  Side side;
  std::shared_ptr<net::Link> remote;
  Received heard;  // by the remote
  std::optional<Result<ConnectionPtr>> connected;

  /// The scripted remote accepts; nothing is answered yet.
  void dial(net::Connection::Identity who = identity("near")) {
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    remote = far_end;
    heard.listen_to(*remote);
    net::spawn(loop.clock.executor(), "dial", connect(near_end, std::move(who)));
    loop.until([&] { return !heard.frames.empty(); });
    REQUIRE(heard.frames[0].verb == wire::Verb::hello);
    REQUIRE_FALSE(heard.frames[0].reply);
  }

  /// The scripted remote dials; it has not said hello.
  void accept(net::Connection::Identity who = identity("far")) {
    auto [near_end, far_end] = net::make_pipe(loop.clock, "near", "far");
    remote = near_end;
    heard.listen_to(*remote);
    net::Connection::accept(far_end, loop.clock, std::move(who), side.frame_handler(),
                            side.close_handler(),
                            [this](const ConnectionPtr& ready) { side.connection = ready; });
  }

  void send(wire::Frame frame) { REQUIRE(remote->send(std::move(frame))); }

  void say_hello(bool reply, int min_version = 1, int max_version = 1) {
    wire::Hello hello;
    hello.min_version = static_cast<std::uint8_t>(min_version);
    hello.max_version = static_cast<std::uint8_t>(max_version);
    wire::Frame frame = frame_of(wire::Verb::hello, 0, reply);
    frame.header = wire::encode(hello);
    send(std::move(frame));
  }

  /// The error the remote was told last, and that the link then ended.
  Errc told() {
    loop.until([&] { return !heard.closes.empty(); });
    REQUIRE(heard.frames.back().verb == wire::Verb::error);
    return wire::decode<wire::ErrorMessage>(heard.frames.back().header)->code;
  }

  void open() {
    accept();
    say_hello(false);
    loop.until([&] { return side.connection != nullptr && !heard.frames.empty(); });
  }

 private:
  net::Task<void> connect(std::shared_ptr<net::Link> link, net::Connection::Identity who) {
    auto connecting =
        net::Connection::connect_over(std::move(link), loop.clock, std::move(who),
                                      side.frame_handler(), side.close_handler(), loop.after(2s));
    connected = co_await std::move(connecting);
    if (*connected) side.connection = **connected;
  }
};

inline wire::Frame error_frame(std::uint32_t stream, Errc code, bool about_session = false) {
  wire::ErrorMessage message;
  message.code = code;
  message.detail = "told";
  message.about_session = about_session;
  wire::Frame frame = frame_of(wire::Verb::error, stream, stream != 0);
  frame.header = wire::encode(message);
  return frame;
}

inline net::Task<void> keep_answer(net::Task<Result<wire::Frame>> call,
                                   std::vector<Result<wire::Frame>>& answers) {
  answers.push_back(co_await std::move(call));
}

}  // namespace farmesh::test
