// A driver among scripted peers, on virtual time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver/chain.hpp"
#include "driver/generator.hpp"
#include "driver/peer_set.hpp"
#include "unit/driver/scripted_peer.hpp"
#include "unit/net/loop.hpp"

namespace farmesh::test {

using Tokens = std::vector<TokenId>;

/// The stand-in head, answering at once, later, or with what the test puts in.
class TestHead final : public wire::Head {
 public:
  explicit TestHead(net::Clock& clock) : clock_(clock) {
    model::StandInOptions options;
    options.blocks = {};
    options.head = true;
    engine_ = model::make_stand_in_engine(options);
  }

  void embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) override {
    ++embeds;
    if (hold) {
      held.push_back(std::move(done));
      return;
    }
    clock_.call_at(clock_.now(),
                   [this, ids = std::move(ids), done = std::move(done)] { done(embedded(ids)); });
  }

  void logits(Payload hidden, std::uint32_t rows,
              std::function<void(Result<std::vector<float>>)> done) override {
    std::vector<float> values(std::size_t{rows} * 97);
    const Result<void> computed = engine_->logits(hidden.view(), rows, values);
    REQUIRE(computed);
    if (spoil_logits) spoil_logits(values);
    clock_.call_at(clock_.now(),
                   [values = std::move(values), done = std::move(done)] { done(values); });
  }

  Payload embedded(const Tokens& ids) {
    AlignedBuffer rows(ids.size() * kRowBytes);
    REQUIRE(engine_->embed(ids, rows.view()));
    return Payload(std::move(rows));
  }

  int embeds = 0;
  bool hold = false;
  std::vector<std::function<void(Result<Payload>)>> held;
  std::function<void(std::vector<float>&)> spoil_logits;

 private:
  net::Clock& clock_;
  std::unique_ptr<model::StageEngine> engine_;
};

/// All layers in one engine: what every split must compute, bit by bit.
inline std::vector<std::byte> alone(const Payload& input) {
  model::StandInOptions options;
  options.blocks = {0, kLayers};
  const auto engine = model::make_stand_in_engine(options);
  REQUIRE(engine->reserve_pages(kPages));
  std::vector<std::uint32_t> pages(kPages);
  std::iota(pages.begin(), pages.end(), 0u);
  std::vector<std::byte> output(input.size());
  const model::SequenceRows rows{pages, 0, static_cast<std::uint32_t>(input.size() / kRowBytes),
                                 input.view(), output};
  REQUIRE(engine->forward({0, kLayers}, {&rows, 1}));
  return output;
}

/// What the head makes of the last row of `rows`.
inline std::vector<float> last_logits(const std::vector<std::byte>& rows) {
  std::vector<float> logits(97);
  model::StandInOptions head;
  head.blocks = {};
  head.head = true;
  REQUIRE(model::make_stand_in_engine(head)->logits(std::span(rows).last(kRowBytes), 1, logits));
  return logits;
}

struct World {
  Loop loop;
  net::SimNetwork network{loop.clock, {5ms, 1ms, 0}, 1};
  std::unique_ptr<net::Transport> transport = network.host("driver");
  std::vector<std::unique_ptr<ScriptedPeer>> peers;
  driver::PeerSet set{*transport, set_options()};
  TestHead head{loop.clock};
  std::vector<driver::ChainEvent> events;

  static driver::PeerSetOptions set_options() {
    driver::PeerSetOptions options;
    options.hello.software = "test driver";
    options.model_hash = kModelHash;
    return options;
  }

  ScriptedPeer& add(const std::string& name, Span span) {
    peers.push_back(std::make_unique<ScriptedPeer>(network, name, span));
    set.add(peers.back()->address());
    return *peers.back();
  }

  void connect() {
    const auto failures = loop.run(set.connect_all(loop.after(5s)));
    REQUIRE(failures.empty());
  }

  driver::ChainOptions chain_options(std::uint8_t session = 1) const {
    driver::ChainOptions options;
    options.session.bytes[0] = session;
    options.num_layers = kLayers;
    options.hidden_size = kHidden;
    options.residual = DType::f32;
    options.max_positions = 400;
    options.max_chunk_rows = 8;
    return options;
  }

  /// Inputs of tokens 0, 1, 2, … in order of position.
  driver::Chain::Inputs inputs() {
    return [this](std::uint32_t from, std::uint32_t count) { return rows(from, count); };
  }
  Payload input_rows(std::uint32_t from, std::uint32_t count) {
    Tokens ids(count);
    std::iota(ids.begin(), ids.end(), from);
    for (TokenId& id : ids) id %= 97;
    return head.embedded(ids);
  }
  net::Task<Result<Payload>> rows(std::uint32_t from, std::uint32_t count) {
    co_return input_rows(from, count);
  }

  std::function<void(const driver::ChainEvent&)> record() {
    return [this](const driver::ChainEvent& event) { events.push_back(event); };
  }
  std::size_t count(driver::ChainEvent::Kind kind) const {
    return static_cast<std::size_t>(std::count_if(
        events.begin(), events.end(), [kind](const auto& event) { return event.kind == kind; }));
  }

  /// The last row of positions [0, end), by one engine alone.
  std::vector<std::byte> expected(std::uint32_t end) {
    const std::vector<std::byte> all = alone(input_rows(0, end));
    return {all.end() - kRowBytes, all.end()};
  }
};

inline std::vector<std::byte> bytes_of(const Payload& payload) {
  return {payload.view().begin(), payload.view().end()};
}

}  // namespace farmesh::test
