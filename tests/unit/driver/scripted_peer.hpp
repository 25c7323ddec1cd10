// A peer in the test's hands: keeps the protocol exactly, one step at a time, with the stand-in
// engine; and misbehaves where its script says so.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "model/stand_in_engine.hpp"
#include "net/connection.hpp"
#include "net/sim_transport.hpp"
#include "wire/row_codec.hpp"

namespace farmesh::test {

inline constexpr std::uint32_t kLayers = 6;
inline constexpr std::uint32_t kHidden = 16;
inline constexpr std::uint32_t kPageTokens = 4;
inline constexpr std::uint32_t kPages = 128;  // of one session
inline constexpr std::size_t kRowBytes = kHidden * sizeof(float);
inline constexpr ModelHash kModelHash{{7, 7, 7}};

struct Script {
  std::string numerics_class = "f32/stand-in";
  ModelHash model_hash = kModelHash;
  NodeId node_id{};
  bool head = false;
  std::uint32_t window_steps = 16;
  std::uint32_t max_step_rows = 1'024;
  std::uint32_t held_positions = 0;                       // claimed at the first open of a session
  std::uint32_t history_rows = ~0u;                       // newest outputs that are kept
  Duration step_time{};                                   // virtual time a step takes
  std::function<Error(const wire::Open&)> refuse_open;    // Errc::ok: no
  std::function<Errc(const wire::Step&)> fail_step;       // Errc::ok: no
  std::function<bool(const wire::Step&)> swallow_step;    // true: it vanishes
  std::function<void(wire::StepReply&, Payload&)> spoil;  // before it goes to the driver
  bool knows_int8 = true;                                 // false: as an older version
  bool silent = false;                                    // nothing is answered, the link lives
};

class ScriptedPeer {
 public:
  struct Seen {
    std::vector<wire::Open> opens;
    std::vector<wire::Step> steps;  // that were computed
    std::vector<wire::Replay> replays;
    int closes = 0;
    int truncates = 0;
    int max_waiting = 0;  // steps that arrived and were not computed, at most
  };

  ScriptedPeer(net::SimNetwork& network, const std::string& name, Span span)
      : transport_(network.host(name)), clock_(transport_->clock()), span_(span) {
    auto listener = transport_->listen(name + ":1", [this](std::shared_ptr<net::Link> link) {
      net::Connection::accept(std::move(link), clock_, identity(), frame_handler(), close_handler(),
                              [this](const auto& ready) { held_.push_back(ready); });
    });
    REQUIRE(listener);
    listener_ = std::move(*listener);
  }

  /// The stage in the driver's own process.
  void attach(std::shared_ptr<net::Link> link) {
    net::Connection::accept(std::move(link), clock_, identity(), frame_handler(), close_handler(),
                            [this](const auto& ready) { held_.push_back(ready); });
  }

  std::string address() const { return listener_->address(); }
  std::size_t open_sessions() const { return sessions_.size(); }

  /// As after an idle timeout, or a restart that kept the link.
  void forget_sessions() { sessions_.clear(); }

  /// Sends a step reply that nobody asked for to the driver of its session.
  void tell_driver(const wire::StepReply& reply, Payload rows) {
    wire::Frame frame;
    frame.verb = wire::Verb::step;
    frame.reply = true;
    frame.header = wire::encode(reply);
    frame.payload = std::move(rows);
    static_cast<void>(sessions_.at(reply.session).driver->push(std::move(frame)));
  }

  void tell_driver_error(const wire::Step& step, Errc code, const std::string& hop) {
    tell_error(sessions_.at(step.session).driver, step, code, hop);
  }

  Script script;
  Seen seen;

 private:
  struct Session {
    std::shared_ptr<net::Connection> driver;
    std::uint32_t epoch = 0;
    Span span;
    Activations activations = Activations::residual;
    std::uint32_t computed = 0;
    std::uint32_t sent_from = 0;  // first position whose output was sent in this session
    std::unique_ptr<model::StageEngine> engine;
    std::map<std::uint32_t, std::vector<std::byte>> outputs;  // by position
    std::vector<std::uint32_t> pages;
  };
  using ConnectionPtr = std::shared_ptr<net::Connection>;

  net::Connection::Identity identity() {
    net::Connection::Identity who;
    who.hello = [this] {
      wire::Hello hello;
      hello.software = "scripted";
      hello.node_id = script.node_id;
      hello.service.model_hash = script.model_hash;
      hello.service.numerics_class = script.numerics_class;
      hello.service.span = span_;
      hello.service.head = script.head;
      hello.service.num_layers = kLayers;
      hello.service.hidden_size = kHidden;
      hello.service.vocab_size = 97;
      hello.service.residual = DType::f32;
      hello.service.page_tokens = kPageTokens;
      return hello;
    };
    who.load = [this] {
      wire::Pong pong;
      pong.queued_rows = static_cast<std::uint32_t>(waiting_);
      return pong;
    };
    return who;
  }

  net::Connection::FrameHandler frame_handler() {
    return [this](const ConnectionPtr& from, wire::Frame frame) {
      if (!script.silent) take(from, std::move(frame));
    };
  }

  net::Connection::CloseHandler close_handler() {
    return [this](const ConnectionPtr& gone, const Error&) {
      std::erase(held_, gone);
      std::erase_if(sessions_, [&](const auto& entry) { return entry.second.driver == gone; });
    };
  }

  void take(const ConnectionPtr& from, wire::Frame frame) {
    switch (frame.verb) {
      case wire::Verb::open: return open(from, frame);
      case wire::Verb::step: return arrive(from, std::move(frame));
      case wire::Verb::truncate: {
        ++seen.truncates;
        const auto message = wire::decode<wire::Truncate>(frame.header);
        Session& session = sessions_.at(message->session);
        if (message->epoch < session.epoch) return;
        session.epoch = message->epoch;
        cut(session, message->position);
        return;
      }
      case wire::Verb::replay: return replay(from, frame);
      case wire::Verb::history: {
        const auto message = wire::decode<wire::HistoryQuery>(frame.header);
        const auto entry = sessions_.find(message->session);
        if (entry == sessions_.end()) return reply_error(from, frame, Errc::session_unknown);
        wire::HistoryReply reply;
        reply.positions = entry->second.computed;
        reply.stored_begin = stored_begin(entry->second);
        reply.stored_end = entry->second.computed;
        return answer(from, frame, wire::encode(reply));
      }
      case wire::Verb::close: {
        ++seen.closes;
        sessions_.erase(wire::decode<wire::Close>(frame.header)->session);
        return;
      }
      case wire::Verb::error: return;  // the next peer forgot the session
      default: FAIL("a scripted peer was sent " << wire::name(frame.verb));
    }
  }

  void open(const ConnectionPtr& from, const wire::Frame& frame) {
    const auto message = wire::decode<wire::Open>(frame.header);
    REQUIRE(message);
    REQUIRE(span_.contains(message->span));
    seen.opens.push_back(*message);
    if (script.refuse_open) {
      const Error refusal = script.refuse_open(*message);
      if (refusal.code != Errc::ok) {
        static_cast<void>(from->reply_error(frame, refusal));
        return;
      }
    }
    Session& session = sessions_[message->session];
    REQUIRE(message->epoch >= session.epoch);
    if (!session.engine || session.span != message->span) {
      REQUIRE((!session.engine || message->epoch > session.epoch));
      model::StandInOptions options;
      options.blocks = message->span;
      session = {};
      session.engine = model::make_stand_in_engine(options);
      REQUIRE(session.engine->reserve_pages(kPages));
      session.pages.resize(kPages);
      std::iota(session.pages.begin(), session.pages.end(), 0u);
      session.span = message->span;
      session.computed = session.sent_from = script.held_positions;
    }
    session.driver = from;
    session.epoch = message->epoch;
    if (script.knows_int8) session.activations = message->activations;
    answer(from, frame,
           wire::encode(wire::OpenReply{session.computed, script.window_steps, script.max_step_rows,
                                        session.activations}));
  }

  void arrive(const ConnectionPtr& from, wire::Frame frame) {
    const auto step = wire::decode<wire::Step>(frame.header);
    REQUIRE(step);
    if (script.swallow_step && script.swallow_step(*step)) return;
    if (script.step_time == Duration::zero()) return compute(from, *step, frame.payload);
    seen.max_waiting = std::max(seen.max_waiting, ++waiting_);
    free_at_ = std::max(free_at_, clock_.now()) + script.step_time;
    clock_.call_at(free_at_, [this, from, step = *step, payload = frame.payload] {
      --waiting_;
      if (!script.silent) compute(from, step, payload);
    });
  }

  void compute(const ConnectionPtr& from, const wire::Step& step, Payload input) {
    const auto entry = sessions_.find(step.session);
    if (entry == sessions_.end()) return tell_error(from, step, Errc::session_unknown);
    Session& session = entry->second;
    if (step.epoch < session.epoch) return tell_error(session.driver, step, Errc::stale_epoch);
    if (script.fail_step) {
      const Errc code = script.fail_step(step);
      if (code != Errc::ok) return tell_error(session.driver, step, code);
    }
    const bool newer = step.epoch > session.epoch;
    if (step.position > session.computed || (!newer && step.position != session.computed)) {
      return tell_error(session.driver, step, Errc::position_gap);
    }
    const bool packed = session.activations == Activations::int8;
    REQUIRE(step.dtype == wire::travelling_dtype(session.activations, DType::f32));
    if (packed) input = *wire::unpack_rows(input.view(), step.count, kHidden, DType::f32);
    REQUIRE(input.size() == step.count * kRowBytes);
    session.epoch = step.epoch;
    cut(session, step.position);
    seen.steps.push_back(step);
    AlignedBuffer output(input.size());
    const model::SequenceRows rows{session.pages, step.position, step.count, input.view(),
                                   output.view()};
    REQUIRE(session.engine->forward(session.span, {&rows, 1}));
    Payload sent(std::move(output));
    if (packed) sent = *wire::pack_rows(sent.view(), kHidden, DType::f32);
    const std::size_t row_bytes = sent.size() / step.count;
    for (std::uint32_t i = 0; i < step.count; ++i) {
      const auto row = sent.view().subspan(i * row_bytes, row_bytes);
      session.outputs[step.position + i].assign(row.begin(), row.end());
    }
    session.computed = step.position + step.count;
    wire::Step onward = step;
    onward.times.push_back({1'000, 2'000, step.count});
    pass_on(session, std::move(onward), std::move(sent));
  }

  void pass_on(Session& session, wire::Step step, Payload output) {
    if (!step.route.empty()) {
      const std::string next = step.route.front().address;
      step.route.erase(step.route.begin());
      forward(next, std::move(step), std::move(output), session.driver);
      return;
    }
    wire::StepReply reply;
    reply.session = step.session;
    reply.epoch = step.epoch;
    reply.position = step.position;
    reply.count = step.count;
    reply.dtype = step.dtype;
    reply.replay = step.replay;
    reply.times = step.times;
    Payload wanted;
    if (!step.replay && step.want != wire::Want::nothing) {
      reply.rows = step.want == wire::Want::all_rows ? step.count : 1;
      const std::size_t row_bytes = output.size() / step.count;
      wanted = output.slice((step.count - reply.rows) * row_bytes, reply.rows * row_bytes);
    }
    if (script.spoil) script.spoil(reply, wanted);
    tell_driver(reply, std::move(wanted));
  }

  void forward(const std::string& next, wire::Step step, Payload output, ConnectionPtr driver) {
    Outgoing& outgoing = outgoing_[next];
    outgoing.waiting.push_back({std::move(step), std::move(output), std::move(driver)});
    if (!outgoing.dialling) {
      outgoing.dialling = true;
      net::spawn(clock_.executor(), "scripted forward", send_waiting(next));
    }
  }

  net::Task<void> send_waiting(std::string next) {
    Outgoing& outgoing = outgoing_[next];
    if (!outgoing.connection || !outgoing.connection->is_open()) {
      auto connecting =
          net::Connection::connect(*transport_, next, identity(), frame_handler(), close_handler(),
                                   clock_.now() + std::chrono::seconds(1));
      auto connected = co_await std::move(connecting);
      outgoing.connection = connected ? *connected : nullptr;
    }
    outgoing.dialling = false;
    for (Waiting& waiting : std::exchange(outgoing.waiting, {})) {
      wire::Frame frame;
      frame.verb = wire::Verb::step;
      frame.header = wire::encode(waiting.step);
      frame.payload = waiting.output;
      if (outgoing.connection && outgoing.connection->push(std::move(frame))) continue;
      tell_error(waiting.driver, waiting.step, Errc::next_hop_lost, next);
    }
  }

  void replay(const ConnectionPtr& from, const wire::Frame& frame) {
    const auto message = wire::decode<wire::Replay>(frame.header);
    REQUIRE(message);
    const auto entry = sessions_.find(message->session);
    if (entry == sessions_.end()) return reply_error(from, frame, Errc::session_unknown);
    Session& session = entry->second;
    if (message->from < stored_begin(session) || message->to > session.computed) {
      return reply_error(from, frame, Errc::invalid_argument);
    }
    seen.replays.push_back(*message);
    answer(from, frame, {});
    for (std::uint32_t position = message->from; position < message->to;) {
      const std::uint32_t count = std::min(message->to - position, 5u);
      wire::Step step;
      step.session = message->session;
      step.epoch = message->epoch;
      step.position = position;
      step.count = count;
      step.dtype = wire::travelling_dtype(session.activations, DType::f32);
      step.want = wire::Want::nothing;
      step.replay = true;
      step.route = message->route;
      const std::size_t row_bytes = session.outputs.at(position).size();
      AlignedBuffer rows(count * row_bytes);
      for (std::uint32_t i = 0; i < count; ++i) {
        std::memcpy(rows.data() + i * row_bytes, session.outputs.at(position + i).data(),
                    row_bytes);
      }
      pass_on(session, std::move(step), Payload(std::move(rows)));
      position += count;
    }
  }

  static void cut(Session& session, std::uint32_t position) {
    session.computed = std::min(session.computed, position);
    session.sent_from = std::min(session.sent_from, position);
    session.outputs.erase(session.outputs.lower_bound(position), session.outputs.end());
  }

  std::uint32_t stored_begin(const Session& session) const {
    const std::uint32_t kept = std::min(session.computed, script.history_rows);
    return std::max(session.sent_from, session.computed - kept);
  }

  void answer(const ConnectionPtr& to, const wire::Frame& request, wire::HeaderBytes header) {
    static_cast<void>(to->reply(request, request.verb, std::move(header)));
  }
  void reply_error(const ConnectionPtr& to, const wire::Frame& request, Errc code) {
    static_cast<void>(to->reply_error(request, {code, "scripted"}));
  }
  void tell_error(const ConnectionPtr& to, const wire::Step& step, Errc code,
                  const std::string& hop = {}) {
    wire::ErrorMessage message;
    message.code = code;
    message.number = static_cast<std::uint16_t>(code);
    message.detail = "scripted";
    message.about_session = true;
    message.session = step.session;
    message.epoch = step.epoch;
    message.position = step.position;
    message.hop = hop;
    wire::Frame frame;
    frame.verb = wire::Verb::error;
    frame.header = wire::encode(message);
    static_cast<void>(to->push(std::move(frame)));
  }

  struct Waiting {
    wire::Step step;
    Payload output;
    ConnectionPtr driver;
  };
  struct Outgoing {
    ConnectionPtr connection;
    bool dialling = false;
    std::vector<Waiting> waiting;
  };

  std::unique_ptr<net::Transport> transport_;
  net::Clock& clock_;
  Span span_;
  std::unique_ptr<net::Listener> listener_;
  std::vector<ConnectionPtr> held_;
  std::map<SessionId, Session> sessions_;
  std::map<std::string, Outgoing> outgoing_;
  int waiting_ = 0;
  TimePoint free_at_{};
};

}  // namespace farmesh::test
