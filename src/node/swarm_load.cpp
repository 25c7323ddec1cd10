#include "node/swarm_load.hpp"

#include <algorithm>
#include <memory>
#include <random>

#include "sampling/sampler.hpp"

namespace farmesh::sim {
namespace {

constexpr std::size_t kMaxFailuresTold = 5;

double milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at = values.begin() + std::ptrdiff_t(q * double(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// A swarm, its peers' spans, and the sessions that come and go.
class Run {
 public:
  explicit Run(const Load& load) : load_(load), random_(load.seed), swarm_(options(load)) {}

  Result<void> add_nodes() {
    std::vector<std::uint32_t> held(kLayers, 0);
    for (const NodeKind& kind : load_.kinds) {
      if (kind.layers == 0 || kind.layers > kLayers) {
        return {Errc::invalid_argument,
                "a node holds 1 to " + std::to_string(kLayers) + " layers of the stand-in model"};
      }
      for (std::uint32_t i = 0; i < kind.count; ++i) {
        const Span span = worst_served(held, kind.layers);
        for (std::uint32_t layer = span.begin; layer < span.end; ++layer) ++held[layer];
        nodes_.push_back({"n" + std::to_string(nodes_.size()), span});
        swarm_.add_slow(nodes_.back().name, span, kind.layer_time * span.size());
      }
    }
    if (*std::min_element(held.begin(), held.end()) == 0) {
      return {Errc::no_route,
              "these nodes do not cover the model's " + std::to_string(kLayers) + " layers"};
    }
    swarm_.connect();
    return {};
  }

  LoadReport run() {
    const TimePoint began = swarm_.clock.now();
    end_ = began + load_.duration;
    for (std::uint32_t i = 0; i < load_.sessions; ++i) {
      // Spread over the first second, as people do.
      const Duration after = std::chrono::milliseconds(random_() % 1'000);
      swarm_.clock.call_at(began + after, [this] { begin_session(); });
    }
    if (load_.kill_every > Duration::zero()) {
      swarm_.clock.call_at(began + load_.kill_every, [this] { kill_one(); });
    }
    swarm_.run_until([this] { return swarm_.clock.now() >= end_ && running_ == 0; });
    report_.seconds = milliseconds(swarm_.clock.now() - began) / 1'000;
    report_.p99_ms = quantile(gaps_, 0.99);
    report_.p50_ms = quantile(gaps_, 0.5);
    report_.longest_ms = gaps_.empty() ? 0 : *std::max_element(gaps_.begin(), gaps_.end());
    report_.frames = swarm_.network.delivered_frames();
    for (const auto& talk : talks_) {
      if (!talk->finish) fail("a session hangs after " + std::to_string(talk->told.size()));
    }
    return std::move(report_);
  }

 private:
  struct Node {
    std::string name;
    Span span;
  };

  static SwarmOptions options(const Load& load) {
    SwarmOptions options;
    options.network = load.network;
    options.seed = load.seed;
    options.drift = load.drift;
    options.limits.cache_tokens = 65'536;
    options.chain.max_chunk_rows = 256;
    options.chain.warm_standby = load.warm_standby;
    return options;
  }

  static Span worst_served(const std::vector<std::uint32_t>& held, std::uint32_t layers) {
    Span best;
    std::vector<std::uint32_t> least;
    for (std::uint32_t begin = 0; begin + layers <= kLayers; ++begin) {
      std::vector<std::uint32_t> window(held.begin() + begin, held.begin() + begin + layers);
      std::sort(window.begin(), window.end());
      if (!least.empty() && window >= least) continue;
      least = std::move(window);
      best = {begin, begin + layers};
    }
    return best;
  }

  void begin_session() {
    if (swarm_.clock.now() >= end_) return;
    const std::uint32_t number = report_.started++;
    ++running_;
    talks_.push_back(std::make_unique<Talk>());
    Talk& talk = *talks_.back();
    talk.prompt = prompt_of(number, load_.prompt_tokens);
    talk.max_tokens = load_.tokens;
    talk.sampling = number % 2 == 0 ? greedy() : warm(number);
    talk.on_token = [this, last = TimePoint{}](std::size_t told) mutable {
      const TimePoint now = swarm_.clock.now();
      if (told > 1) gaps_.push_back(milliseconds(now - last));
      last = now;
      ++report_.tokens;
    };
    talk.on_end = [this, &talk] { end_session(talk); };
    swarm_.start(talk);
  }

  void end_session(Talk& talk) {
    --running_;
    report_.recoveries += talk.generator->recoveries();
    std::string what = Swarm::verdict(talk);
    if (what.empty()) {
      ++report_.completed;
    } else {
      fail(std::move(what));
    }
    // Its generator runs just now: it goes when this has returned.
    swarm_.clock.call_at(swarm_.clock.now(), [this, &talk] {
      swarm_.forget(talk);
      std::erase_if(talks_, [&talk](const auto& held) { return held.get() == &talk; });
      begin_session();
    });
  }

  void fail(std::string what) {
    if (report_.failures.size() < kMaxFailuresTold) report_.failures.push_back(std::move(what));
  }

  bool may_die(const std::string& name) const {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      const bool held = std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
        return node.name != name && swarm_.alive(node.name) &&
               node.span.contains({layer, layer + 1});
      });
      if (!held) return false;
    }
    return true;
  }

  void kill_one() {
    if (swarm_.clock.now() >= end_) return;
    for (std::size_t tries = 0; tries < 4 * nodes_.size(); ++tries) {
      const std::string name = nodes_[random_() % nodes_.size()].name;
      if (!swarm_.alive(name) || !may_die(name)) continue;
      swarm_.kill(name);
      ++report_.kills;
      swarm_.clock.call_at(swarm_.clock.now() + load_.revive_after,
                           [this, name] { swarm_.revive(name); });
      break;
    }
    swarm_.clock.call_at(swarm_.clock.now() + load_.kill_every, [this] { kill_one(); });
  }

  const Load load_;
  std::mt19937_64 random_;
  std::vector<double> gaps_;
  LoadReport report_;
  std::vector<Node> nodes_;
  TimePoint end_{};
  std::uint32_t running_ = 0;
  Swarm swarm_;
  std::vector<std::unique_ptr<Talk>> talks_;  // gone before the swarm
};

/// Knows how the text goes on, and is wrong as often as it is to be.
class ScriptedDraft final : public driver::Guesser {
 public:
  ScriptedDraft(net::Clock& clock, Tokens text, const DraftKind& kind)
      : clock_(clock), text_(std::move(text)), kind_(kind) {}

  void guess(std::span<const TokenId> ids, std::uint32_t most, Done done) override {
    Tokens guessed;
    for (std::size_t at = ids.size(); at < text_.size() && guessed.size() < most; ++at) {
      const bool right = sampling::uniform(7, at) < kind_.acceptance;
      guessed.push_back(right ? text_[at] : (text_[at] + 1) % kVocab);
    }
    clock_.call_at(clock_.now() + most * kind_.token_time,
                   [guessed = std::move(guessed), done = std::move(done)] { done(guessed); });
  }

 private:
  net::Clock& clock_;
  const Tokens text_;
  const DraftKind kind_;
};

/// The mean time of a token after the first few; below 0 if the talk told other tokens.
double token_ms(Swarm& swarm, Talk talk) {
  TimePoint began{};
  TimePoint ended{};
  talk.on_token = [&](std::size_t told) {
    if (told == 5) began = swarm.clock.now();
    ended = swarm.clock.now();
  };
  const std::string wrong = swarm.hold(talk);
  static_cast<void>(swarm.leaks());
  return wrong.empty() ? milliseconds(ended - began) / (talk.max_tokens - 5) : -1;
}

}  // namespace

Result<LoadReport> run_load(const Load& load) {
  Run run(load);
  const Result<void> added = run.add_nodes();
  if (!added) return added.error();
  return run.run();
}

WanReport wan_decode(Duration one_way, Duration hop_time, std::uint32_t tokens) {
  SwarmOptions options;
  options.network = {one_way, Duration::zero(), 0};
  options.compute_base = hop_time;
  options.compute_per_row = Duration::zero();
  WanReport report;
  // The head embeds a token and gives logits; each is a pass of its own.
  const double head_ms = 2 * milliseconds(std::chrono::microseconds(50 + 20));
  report.bound_ms = 4 * milliseconds(one_way) + 3 * milliseconds(hop_time) + head_ms;
  {
    Swarm ring(options);
    for (std::uint32_t i = 0; i < 3; ++i)
      ring.add(std::string(1, char('a' + i)), {4 * i, 4 * i + 4});
    ring.connect();
    report.ring_ms = token_ms(ring, {prompt_of(3, 8), tokens, greedy()});
  }
  // By way of the driver each hop costs a whole round trip: to it and back.
  SwarmOptions hub = options;
  hub.network.latency = one_way * 2;
  {
    Swarm star(hub);
    for (std::uint32_t i = 0; i < 3; ++i) {
      const std::string name(1, char('a' + i));
      star.add(name, {4 * i, 4 * i + 4});
      star.network.set_latency("driver", name, one_way);
    }
    star.connect();
    report.hub_ms = token_ms(star, {prompt_of(3, 8), tokens, greedy()});
  }
  return report;
}

PipelineReport pipeline(const PipelineKind& kind) {
  SwarmOptions options;
  options.network = {kind.one_way, kind.jitter, 0};
  options.compute_base = kind.pass;
  options.compute_per_row = kind.per_row;
  options.limits.cache_tokens = kind.sessions * (kind.tokens + 64);
  Swarm swarm(options);
  std::vector<std::string> stages;
  const std::uint32_t layers = kLayers / kind.stages;
  for (std::uint32_t i = 0; i < kind.stages; ++i) {
    stages.push_back(std::string(1, char('a' + i)));
    const double times = i + 1 == kind.stages ? kind.last_stage : 1;
    swarm.add_slow(stages.back(), {i * layers, (i + 1) * layers},
                   std::chrono::duration_cast<Duration>(kind.pass * times));
  }
  swarm.connect();

  constexpr std::uint32_t kEdge = 20;
  const auto busy = [&] {
    Duration sum{};
    for (const std::string& stage : stages) sum += swarm.busy(stage);
    return sum;
  };
  std::uint32_t under_way = 0;  // sessions past the first tokens
  std::uint64_t tokens = 0;
  bool measuring = false;
  TimePoint began{};
  Duration took{};
  Duration busy_before{};
  PipelineReport report;
  std::vector<Talk> talks(kind.sessions);
  for (std::uint32_t i = 0; i < kind.sessions; ++i) {
    talks[i].prompt = prompt_of(i, 8);
    talks[i].max_tokens = kind.tokens;
    talks[i].sampling = greedy();
    talks[i].on_token = [&](std::size_t told) {
      if (measuring) ++tokens;
      if (told == kEdge && ++under_way == kind.sessions) {
        measuring = true;
        began = swarm.clock.now();
        busy_before = busy();
      }
      if (told + kEdge < kind.tokens || !measuring) return;
      measuring = false;
      took = swarm.clock.now() - began;
      report.busy = milliseconds(busy() - busy_before) / milliseconds(took) / kind.stages;
    };
    swarm.start(talks[i]);
  }
  swarm.run();
  bool right = true;
  for (const Talk& talk : talks) right = right && Swarm::verdict(talk).empty();
  static_cast<void>(swarm.leaks());
  if (right && took > Duration::zero()) {
    report.tokens_per_second = static_cast<double>(tokens) / (milliseconds(took) / 1'000);
  }
  return report;
}

DraftReport wan_draft(Duration one_way, Duration hop_time, std::uint32_t tokens) {
  SwarmOptions options;
  options.network = {one_way, Duration::zero(), 0};
  options.compute_base = hop_time;
  options.compute_per_row = hop_time / 10;
  DraftReport report;
  for (const std::uint32_t max_draft : {0u, 16u}) {
    Swarm swarm(options);
    for (std::uint32_t i = 0; i < 3; ++i)
      swarm.add(std::string(1, char('a' + i)), {4 * i, 4 * i + 4});
    swarm.connect();
    Talk talk{prompt_of(3, 20), tokens, greedy()};
    // Each word's logit is uniform over 16: the second wins in (16 - 10)^2 / (2 * 16^2) = 7 %.
    talk.sampling.logit_bias = {{40, 100}, {41, 90}};
    talk.max_draft = max_draft;
    (max_draft == 0 ? report.plain_ms : report.draft_ms) = token_ms(swarm, std::move(talk));
  }
  return report;
}

DraftReport wan_draft_model(Duration one_way, Duration hop_time, std::uint32_t tokens,
                            const DraftKind& kind) {
  SwarmOptions options;
  options.network = {one_way, Duration::zero(), 0};
  options.compute_base = hop_time;
  options.compute_per_row = hop_time / 10;
  const Tokens prompt = prompt_of(3, 20);
  Tokens text = prompt;
  const Tokens told = alone(prompt, tokens, greedy());
  text.insert(text.end(), told.begin(), told.end());
  DraftReport report;
  for (const bool guesses : {false, true}) {
    Swarm swarm(options);
    for (std::uint32_t i = 0; i < 3; ++i)
      swarm.add(std::string(1, char('a' + i)), {4 * i, 4 * i + 4});
    swarm.connect();
    Talk talk{prompt, tokens, greedy()};
    talk.max_draft = guesses ? 16 : 0;
    talk.draft_model = std::make_shared<ScriptedDraft>(swarm.clock, text, kind);
    (guesses ? report.draft_ms : report.plain_ms) = token_ms(swarm, std::move(talk));
  }
  return report;
}

RecoveryReport recovery_at(std::uint32_t positions) {
  SwarmOptions options;
  options.limits.cache_tokens = 2 * positions + 1'024;
  options.chain.max_chunk_rows = 256;
  options.compute_per_row = std::chrono::microseconds(500);
  RecoveryReport report;
  Swarm swarm(options);
  for (std::uint32_t i = 0; i < 3; ++i)
    swarm.add(std::string(1, char('a' + i)), {4 * i, 4 * i + 4});
  swarm.connect();
  swarm.add("s", {4, 8});
  swarm.connect();
  Talk talk{prompt_of(5, positions - 10), 20, greedy()};
  TimePoint killed{};
  std::string victim;
  talk.on_token = [&](std::size_t told) {
    if (told == 11) report.recovery_ms = milliseconds(swarm.clock.now() - killed);
    if (told != 10) return;
    victim = talk.generator->hops()[1].address;
    victim.resize(victim.find(':'));
    killed = swarm.clock.now();
    swarm.kill(victim);
  };
  const std::string wrong = swarm.hold(talk);
  if (!wrong.empty()) report.recovery_ms = -1;
  const double passes = (positions + 255) / 256;
  report.prefill_ms = milliseconds(options.compute_per_row) * positions +
                      milliseconds(options.compute_base) * passes;
  report.detection_ms = milliseconds(options.network.latency + options.network.jitter);
  static_cast<void>(swarm.leaks());
  return report;
}

}  // namespace farmesh::sim
