#include "node/swarm.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <sstream>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "model/stand_in_engine.hpp"
#include "sampling/sampler.hpp"

namespace farmesh::sim {
namespace {

constexpr ModelHash kModelHash{{4, 2}};

/// The same in every run.
identity::NodeKey key_of(const std::string& name) {
  return identity::NodeKey::from_seed(sha256(as_view(name)));
}

std::unique_ptr<model::StageEngine> make_engine(Span blocks, bool head) {
  model::StandInOptions options;
  options.blocks = blocks;
  options.head = head;
  options.vocab_size = kVocab;
  options.page_tokens = kPageTokens;
  return model::make_stand_in_engine(options);
}

/// The same model, in the arithmetic of another machine: every output differs by a little.
class OtherClass final : public model::StageEngine {
 public:
  OtherClass(std::unique_ptr<model::StageEngine> engine, std::string numerics_class)
      : engine_(std::move(engine)), info_(engine_->info()) {
    info_.numerics_class = std::move(numerics_class);
  }
  const model::EngineInfo& info() const noexcept override { return info_; }
  Result<void> reserve_pages(std::uint32_t count) override { return engine_->reserve_pages(count); }
  Result<void> forward(Span blocks, std::span<const model::SequenceRows> batch) override {
    const Result<void> done = engine_->forward(blocks, batch);
    for (const auto& rows : batch) rows.output.front() ^= std::byte{1};
    return done;
  }
  Result<void> copy_page(std::uint32_t from, std::uint32_t to) override {
    return engine_->copy_page(from, to);
  }
  Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) override {
    return engine_->embed(ids, hidden);
  }
  Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) override {
    return engine_->logits(hidden, rows, logits);
  }

 private:
  std::unique_ptr<model::StageEngine> engine_;
  model::EngineInfo info_;
};

/// What a test does to a machine's forward passes, and sees of them.
struct Passes {
  Duration extra{};  // that each takes longer
  Duration took{};   // all that have ended
};

/// Simulated compute that a test can slow down while it runs.
class Brake final : public serve::Compute {
 public:
  Brake(std::unique_ptr<serve::Compute> compute, net::Clock& clock, Passes& passes)
      : compute_(std::move(compute)), clock_(clock), passes_(passes) {}

  void run(std::uint32_t rows, std::function<void()> work, std::function<void()> done) override {
    auto ended = [this, began = clock_.now(), done = std::move(done)] {
      passes_.took += clock_.now() - began;
      done();
    };
    compute_->run(rows, std::move(work), [this, ended = std::move(ended)] {
      if (passes_.extra == Duration::zero()) return ended();
      clock_.call_at(clock_.now() + passes_.extra, ended);
    });
  }

 private:
  std::unique_ptr<serve::Compute> compute_;
  net::Clock& clock_;
  Passes& passes_;
};

std::unique_ptr<serve::Worker> make_worker(std::unique_ptr<model::StageEngine> engine,
                                           net::Clock& clock, Duration base, Duration per_row,
                                           const serve::WorkerLimits& limits,
                                           Passes* passes = nullptr) {
  auto compute = serve::make_sim_compute(clock, base, per_row);
  if (passes != nullptr) compute = std::make_unique<Brake>(std::move(compute), clock, *passes);
  auto worker = serve::Worker::create(std::move(engine), std::move(compute), clock, limits);
  FARMESH_ASSERT(worker.has_value());
  return std::move(*worker);
}

}  // namespace

Tokens alone(const Tokens& prompt, std::uint32_t max_tokens, const SamplingOptions& sampling) {
  const auto engine = make_engine({0, kLayers}, true);
  const std::size_t row = engine->info().hidden_size * sizeof(float);
  std::vector<std::uint32_t> pages((prompt.size() + max_tokens) / kPageTokens + 1);
  std::iota(pages.begin(), pages.end(), 0u);
  FARMESH_ASSERT(engine->reserve_pages(static_cast<std::uint32_t>(pages.size())).has_value());
  Tokens ids = prompt;
  Tokens generated;
  std::uint32_t position = 0;
  while (generated.size() < max_tokens) {
    const auto fresh = std::span(ids).subspan(position);
    std::vector<std::byte> input(fresh.size() * row);
    std::vector<std::byte> output(input.size());
    FARMESH_ASSERT(engine->embed(fresh, input).has_value());
    const model::SequenceRows rows{pages, position, static_cast<std::uint32_t>(fresh.size()), input,
                                   output};
    FARMESH_ASSERT(engine->forward({0, kLayers}, {&rows, 1}).has_value());
    std::vector<float> logits(kVocab);
    FARMESH_ASSERT(engine->logits(std::span(output).last(row), 1, logits).has_value());
    position = static_cast<std::uint32_t>(ids.size());
    const auto choice = sampling::sample(logits, ids, generated.size(), position, sampling);
    ids.push_back(choice->id);
    generated.push_back(choice->id);
  }
  return generated;
}

Tokens prompt_of(std::uint32_t seed, std::size_t length) {
  Tokens ids;
  for (std::uint32_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<TokenId>(100 * sampling::uniform(seed, i)) % kVocab);
  }
  return ids;
}

SamplingOptions greedy() {
  SamplingOptions options;
  options.temperature = 0;
  return options;
}

SamplingOptions warm(std::uint64_t seed) {
  SamplingOptions options;
  options.temperature = 1;
  options.top_p = 0.95f;
  options.repetition_penalty = 1.05f;
  options.seed = seed;
  return options;
}

std::uint64_t seed_or(std::uint64_t fallback) {
  const char* text = std::getenv("FARMESH_SEED");
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

// --- the swarm -----------------------------------------------------------------------------

struct Swarm::Machine {
  Passes passes;
  std::unique_ptr<net::Transport> transport;
  std::unique_ptr<serve::Worker> worker;
  std::unique_ptr<serve::Peer> peer;
  std::uint32_t pages = 0;
};

Swarm::Swarm(SwarmOptions o)
    : options(std::move(o)),
      network(clock, options.network, options.seed),
      transport_(network.host("driver")) {
  driver::PeerSetOptions set;
  set.hello.software = "swarm";
  set.hello.node_id[0] = 1;
  set.model_hash = kModelHash;
  if (options.paid) {
    set.key = key_of("driver");
    set.hello.node_id = set.key->id();
  }
  peers = std::make_unique<driver::PeerSet>(*transport_, std::move(set));
  head_ = make_worker(make_engine({}, true), clock, std::chrono::microseconds(50),
                      std::chrono::microseconds(20), options.limits);
}

Swarm::~Swarm() = default;

Swarm::Machine& Swarm::build(const std::string& name, std::unique_ptr<model::StageEngine> engine,
                             Duration base) {
  auto machine = std::make_unique<Machine>();
  if (options.drift != 0) {
    const double sign = machines_.size() % 2 == 0 ? 1 : -1;
    network.skew(name, sign * options.drift, std::chrono::seconds(machines_.size()));
  }
  machine->transport = network.host(name);
  machine->worker = make_worker(std::move(engine), machine->transport->clock(), base,
                                options.compute_per_row, options.limits, &machine->passes);
  machine->pages = machine->worker->load().free_pages;
  serve::PeerOptions peer;
  peer.model_hash = kModelHash;
  peer.num_layers = kLayers;
  peer.history_bytes = options.history_bytes;
  peer.shares.unpaid_tokens = 0;  // hours of a whole network's load come from few drivers
  if (options.paid) {
    peer.meter.key = key_of(name);
    peer.meter.demands_grants = true;
    peer.node_id = peer.meter.key->id();
  }
  machine->peer = std::make_unique<serve::Peer>(*machine->transport, *machine->worker, peer);
  const auto listening = machine->peer->listen(name + ":1");
  FARMESH_ASSERT(listening.has_value());
  peers->add(*listening);
  return *(machines_[name] = std::move(machine));
}

void Swarm::add(const std::string& name, Span span) {
  build(name, make_engine(span, false), options.compute_base);
}

void Swarm::add_slow(const std::string& name, Span span, Duration base) {
  build(name, make_engine(span, false), base);
}

void Swarm::add_of_class(const std::string& name, Span span, const std::string& numerics_class) {
  build(name, std::make_unique<OtherClass>(make_engine(span, false), numerics_class),
        options.compute_base);
}

void Swarm::slow_down(const std::string& name, Duration extra) {
  machines_.at(name)->passes.extra = extra;
}

Duration Swarm::busy(const std::string& name) const { return machines_.at(name)->passes.took; }

namespace {

net::Task<void> connect_all(driver::PeerSet& peers, TimePoint deadline,
                            std::shared_ptr<bool> done) {
  auto connecting = peers.connect_all(deadline, true);
  co_await std::move(connecting);
  *done = true;
}

}  // namespace

void Swarm::connect() {
  const auto done = std::make_shared<bool>(false);
  net::spawn(clock.executor(), "swarm connect",
             connect_all(*peers, clock.now() + std::chrono::seconds(5), done));
  run_until([done] { return *done; });
}

void Swarm::connect_soon() {
  net::spawn(
      clock.executor(), "swarm connect",
      connect_all(*peers, clock.now() + std::chrono::seconds(5), std::make_shared<bool>(false)));
}

std::size_t Swarm::count(driver::ChainEvent::Kind kind) const {
  return static_cast<std::size_t>(
      std::count_if(events.begin(), events.end(),
                    [kind](const driver::ChainEvent& event) { return event.kind == kind; }));
}

void Swarm::kill(const std::string& name) {
  network.kill(name);
  dead_.insert(name);
}

void Swarm::revive(const std::string& name) {
  network.revive(name);
  dead_.erase(name);
}

net::Task<void> Swarm::talk_through(Swarm& swarm, Talk& talk) {
  driver::Turn turn;
  turn.ids = talk.prompt;
  turn.max_tokens = talk.max_tokens;
  turn.sampling = talk.sampling;
  turn.max_draft = talk.max_draft;
  driver::OnToken on_token = [&talk](const wire::TokenMessage& message) {
    talk.told.push_back(message.id);
    talk.indices.push_back(message.index);
    if (talk.on_token) talk.on_token(talk.told.size());
    return true;
  };
  auto generating = talk.generator->generate(std::move(turn), std::move(on_token));
  talk.finish = co_await std::move(generating);
  --swarm.talking_;
  if (talk.on_end) talk.on_end();
}

void Swarm::start(Talk& talk) {
  driver::GeneratorOptions generator;
  const std::uint32_t number = next_session_++;
  for (std::size_t i = 0; i < 4; ++i) {
    generator.session.bytes[i] = static_cast<std::uint8_t>(number >> (8 * i));
  }
  generator.num_layers = kLayers;
  generator.hidden_size = 16;
  generator.vocab_size = kVocab;
  generator.max_position = 16'384;
  generator.page_tokens = kPageTokens;
  generator.residual = DType::f32;
  generator.prefix_key = {1, 2, 3, 4};
  generator.chain = options.chain;
  generator.draft_model = talk.draft_model;
  if (options.paid) {
    driver::BillTerms terms;
    terms.account[0] = static_cast<std::uint8_t>(number);
    terms.account[1] = static_cast<std::uint8_t>(number >> 8);
    terms.token_limit = talk.max_tokens;
    talk.bill = generator.chain.bill = std::make_shared<driver::Bill>(terms);
  }
  talk.generator = std::make_unique<driver::Generator>(
      *peers, *head_, std::move(generator),
      [this](const driver::ChainEvent& event) { events.push_back(event); });
  talks_.push_back(&talk);
  ++talking_;
  net::spawn(clock.executor(), "swarm talk", talk_through(*this, talk));
}

void Swarm::forget(Talk& talk) {
  talk.generator.reset();
  std::erase(talks_, &talk);
}

bool Swarm::run() {
  return run_until([this] { return talking_ == 0; });
}

bool Swarm::run_until(const std::function<bool()>& done) {
  return clock.run_until(done, clock.now() + std::chrono::hours(1));
}

void Swarm::pass(Duration duration) {
  const TimePoint end = clock.now() + duration;
  clock.call_at(end, [] {});
  clock.run_until([] { return false; }, end);
}

std::string Swarm::hold(Talk& talk) {
  start(talk);
  if (!run()) return "the talk hangs after " + std::to_string(talk.told.size()) + " tokens";
  return verdict(talk);
}

std::string Swarm::verdict(const Talk& talk) {
  std::ostringstream what;
  if (!talk.finish) return "the talk has not ended";
  if (!*talk.finish) what << talk.finish->error().to_string() << "; ";
  const Tokens expected = alone(talk.prompt, talk.max_tokens, talk.sampling);
  for (std::size_t i = 0; i < talk.told.size(); ++i) {
    if (talk.indices[i] != i) what << "token " << i << " is numbered " << talk.indices[i] << "; ";
  }
  const auto [told, right] =
      std::mismatch(talk.told.begin(), talk.told.end(), expected.begin(), expected.end());
  if (told != talk.told.end() || right != expected.end()) {
    what << "differs at token " << told - talk.told.begin() << " of " << talk.told.size()
         << ", expected " << expected.size();
  }
  return what.str();
}

std::string Swarm::leaks() {
  for (Talk* talk : std::exchange(talks_, {})) talk->generator.reset();
  pass(std::chrono::seconds(1));
  std::ostringstream what;
  for (const auto& [name, machine] : machines_) {
    if (!alive(name)) continue;
    const wire::Pong load = machine->worker->load();
    if (load.sessions != 0 || load.queued_rows != 0 || load.free_pages != machine->pages ||
        machine->peer->stats().sessions != 0) {
      what << name << " keeps " << load.sessions << " sessions, " << load.queued_rows
           << " rows, and has " << load.free_pages << " of " << machine->pages << " pages; ";
    }
  }
  return what.str();
}

}  // namespace farmesh::sim
