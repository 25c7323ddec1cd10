#include "driver/generator.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "driver/guesses.hpp"
#include "driver/page_names.hpp"
#include "net/event.hpp"
#include "sampling/sampler.hpp"

namespace farmesh::driver {
namespace {

constexpr std::chrono::seconds kGuessPatience{5};  // with a guesser that does not answer

}  // namespace

struct Generator::Impl : std::enable_shared_from_this<Generator::Impl> {
  using Self = std::shared_ptr<Impl>;

  Impl(PeerSet& p, wire::Head& h, GeneratorOptions o, std::function<void(const ChainEvent&)> e)
      : peers(p),
        head(h),
        options(std::move(o)),
        on_event(std::move(e)),
        guessing(options.draft_model) {}

  static net::Task<Result<wire::Finish>> generate(Self self, Turn turn, OnToken on_token);
  net::Task<Result<wire::Finish>> run(const Turn& turn, const OnToken& on_token);
  net::Task<Result<void>> prepare(std::uint32_t tokens);
  net::Task<void> guess(std::uint32_t most);
  net::Task<Result<std::vector<float>>> next_logits();
  Result<std::vector<sampling::Choice>> choose(const Turn& turn, std::span<const float> logits,
                                               std::uint32_t output);
  static net::Task<Result<Payload>> embed(Self self, std::uint32_t from, std::uint32_t count);
  Result<void> check(const Turn& turn) const;
  static bool stops(const Turn& turn, TokenId id);
  std::uint32_t tokens_left(const Turn& turn) const;
  wire::TokenMessage describe(const sampling::Choice& choice, std::uint32_t index, bool first);
  void cancel();
  void close_chain();

  template <class T>
  net::Task<Result<T>> ask(std::function<void(std::function<void(Result<T>)>)> start,
                           TimePoint deadline = TimePoint::max());

  PeerSet& peers;
  wire::Head& head;
  GeneratorOptions options;
  std::function<void(const ChainEvent&)> on_event;

  std::vector<TokenId> ids;
  std::vector<TokenId> guesses;  // behind `ids`, in the step under way
  Guesses guessing;
  std::optional<Chain> chain;
  std::uint32_t next_epoch = 1;          // of a chain opened from here on
  std::uint32_t earlier_recoveries = 0;  // of chains that were closed
  std::uint32_t earlier_numerics_changes = 0;
  std::vector<CommittedRows> earlier_committed;
  std::vector<wire::Hop> told_route;
  std::function<void()> abandon;  // ends the wait in ask(); empty: nobody is asked
  bool running = false;
  bool cancelled = false;
};

net::Task<Result<wire::Finish>> Generator::Impl::generate(Self self, Turn turn, OnToken on_token) {
  Impl& impl = *self;
  if (impl.running) co_return Error{Errc::invalid_argument, "a turn is in progress"};
  const Result<void> valid = impl.check(turn);
  if (!valid) co_return valid.error();
  impl.running = true;
  impl.cancelled = false;
  impl.told_route.clear();
  impl.ids.insert(impl.ids.end(), turn.ids.begin(), turn.ids.end());
  auto running_turn = impl.run(turn, on_token);
  Result<wire::Finish> finish = co_await std::move(running_turn);
  impl.running = false;
  if (impl.cancelled) co_return wire::Finish::cancelled;
  if (!finish) impl.close_chain();  // whatever it was, the next turn begins on fresh ground
  co_return finish;
}

Result<void> Generator::Impl::check(const Turn& turn) const {
  const std::size_t all = ids.size() + turn.ids.size();
  if (all == 0) return {Errc::invalid_argument, "there are no token ids to go on from"};
  if (all > options.max_position) {
    return {Errc::context_exceeded, std::to_string(all) + " tokens, and the model's context is " +
                                        std::to_string(options.max_position)};
  }
  for (const TokenId id : turn.ids) {
    if (id < options.vocab_size) continue;
    return {Errc::invalid_argument,
            "token id " + std::to_string(id) + " is outside the vocabulary"};
  }
  if (turn.emitted > all) {
    return {Errc::invalid_argument, "more tokens emitted than there are"};
  }
  return sampling::validate(turn.sampling, options.vocab_size);
}

bool Generator::Impl::stops(const Turn& turn, TokenId id) {
  return std::find(turn.stop_tokens.begin(), turn.stop_tokens.end(), id) != turn.stop_tokens.end();
}

std::uint32_t Generator::Impl::tokens_left(const Turn& turn) const {
  const std::uint32_t wanted = turn.max_tokens - std::min(turn.emitted, turn.max_tokens);
  const auto room = options.max_position - static_cast<std::uint32_t>(ids.size());
  return std::min(wanted, room);
}

/// Opens the chain, or makes it ready for a further turn of at most `tokens` tokens.
net::Task<Result<void>> Generator::Impl::prepare(std::uint32_t tokens) {
  // The last token generated is not run, so it needs no room.
  const auto run = static_cast<std::uint32_t>(ids.size()) + std::max(tokens, 1u) - 1;
  std::vector<PageName> names = page_names(options.prefix_key, ids, options.page_tokens);
  if (chain) {
    auto extending = chain->extend(run, std::move(names));
    const Result<void> extended = co_await std::move(extending);
    co_return extended;
  }
  ChainOptions wanted = options.chain;
  wanted.session = options.session;
  wanted.num_layers = options.num_layers;
  wanted.hidden_size = options.hidden_size;
  wanted.residual = options.residual;
  wanted.max_positions = run;
  wanted.page_names = std::move(names);
  wanted.first_epoch = next_epoch;
  wanted.prompt_positions = static_cast<std::uint32_t>(ids.size());
  Chain::Inputs inputs = [weak = weak_from_this()](std::uint32_t from, std::uint32_t count) {
    return embed(weak.lock(), from, count);
  };
  chain.emplace(peers, std::move(inputs), std::move(wanted), on_event);
  auto opening = chain->open();
  const Result<std::uint32_t> opened = co_await std::move(opening);
  if (!opened) co_return opened.error();
  co_return Result<void>();
}

net::Task<Result<wire::Finish>> Generator::Impl::run(const Turn& turn, const OnToken& on_token) {
  std::uint32_t left = tokens_left(turn);
  std::uint32_t output = turn.emitted;
  if (left == 0 && turn.max_tokens > 0) co_return wire::Finish::length;
  auto preparing = prepare(left);
  const Result<void> prepared = co_await std::move(preparing);
  if (cancelled) co_return wire::Finish::cancelled;
  if (!prepared) co_return prepared.error();
  if (turn.max_draft > 0 && left > 1) guessing.read(ids);

  for (;;) {
    chain->expect(left);
    guesses.clear();
    const bool decodes = chain->positions() + 1 >= ids.size();
    if (decodes && turn.max_draft > 0 && left > 1) {
      auto guessing_ahead = guess(std::min(turn.max_draft, left - 1));
      co_await std::move(guessing_ahead);
      if (cancelled) co_return wire::Finish::cancelled;
    }
    auto computing = next_logits();
    const Result<std::vector<float>> logits = co_await std::move(computing);
    if (cancelled) co_return wire::Finish::cancelled;
    if (!logits) co_return logits.error();
    if (left == 0) co_return wire::Finish::length;  // only the prompt was to be run
    const Result<std::vector<sampling::Choice>> choices = choose(turn, *logits, output);
    if (!choices) co_return Error{Errc::compute_failed, choices.error().detail};
    for (const sampling::Choice& choice : *choices) {
      ids.push_back(choice.id);
      const bool goes_on = on_token(describe(choice, output, &choice == choices->data()));
      ++output;
      if (!goes_on) {
        if (chain) chain->reject(static_cast<std::uint32_t>(ids.size()) - 1);
        cancel();
      }
      if (cancelled) co_return wire::Finish::cancelled;
      if (stops(turn, choice.id)) co_return wire::Finish::stop;
      if (--left == 0) co_return wire::Finish::length;
    }
  }
}

/// The tokens behind the ids: one, and one more for each guess in a row that it agrees with.
Result<std::vector<sampling::Choice>> Generator::Impl::choose(const Turn& turn,
                                                              std::span<const float> logits,
                                                              std::uint32_t output) {
  const std::size_t before = ids.size();
  std::vector<sampling::Choice> choices;
  Result<sampling::Choice> choice = sampling::Choice{};
  for (;;) {
    const std::size_t row = choices.size();
    choice = sampling::sample(logits.subspan(row * options.vocab_size, options.vocab_size), ids,
                              output + row, ids.size(), turn.sampling);
    if (!choice) break;
    choices.push_back(*choice);
    const bool agrees = row < guesses.size() && choice->id == guesses[row];
    if (!agrees || stops(turn, choice->id)) break;
    ids.push_back(choice->id);  // for those that follow
  }
  ids.resize(before);
  if (!choice) return choice.error();
  const auto used = static_cast<std::uint32_t>(before + choices.size()) - 1;
  chain->reject(used);
  guessing.judged(static_cast<std::uint32_t>(guesses.size()),
                  static_cast<std::uint32_t>(choices.size()) - 1);
  guesses.clear();
  return choices;
}

/// Makes `guesses`: what may follow the ids, as far as it can be run.
net::Task<void> Generator::Impl::guess(std::uint32_t most) {
  using Guessed = std::vector<TokenId>;
  std::function<void(std::function<void(Result<Guessed>)>)> start =
      [this, most](std::function<void(Result<Guessed>)> done) {
        guessing.guess(ids, most, std::move(done));
      };
  auto asking = ask<Guessed>(std::move(start), peers.clock().now() + kGuessPatience);
  const Result<Guessed> guessed = co_await std::move(asking);
  if (!guessed) co_return;
  for (const TokenId id : *guessed) {
    if (guesses.size() == most || id >= options.vocab_size) break;
    guesses.push_back(id);
  }
}

/// Runs what of the ids has not been run, at least the last, and gives the logits after it; with
/// guesses, those too, and the logits after each.
net::Task<Result<std::vector<float>>> Generator::Impl::next_logits() {
  const auto count = static_cast<std::uint32_t>(ids.size());
  const std::uint32_t from = std::min(chain->positions(), count - 1);
  const auto rows = static_cast<std::uint32_t>(1 + guesses.size());
  const wire::Want want = guesses.empty() ? wire::Want::last_row : wire::Want::all_rows;
  auto stepping = chain->step(from, count - from + rows - 1, want);
  Result<Payload> row = co_await std::move(stepping);
  if (!row) co_return row.error();
  if (cancelled) co_return Error{Errc::cancelled, {}};
  std::function<void(std::function<void(Result<std::vector<float>>)>)> start =
      [this, rows, row = std::move(*row)](std::function<void(Result<std::vector<float>>)> done) {
        head.logits(row, rows, std::move(done));
      };
  auto asking = ask<std::vector<float>>(std::move(start));
  Result<std::vector<float>> logits = co_await std::move(asking);
  if (!logits) co_return logits;
  if (logits->size() != std::size_t{rows} * options.vocab_size) {
    co_return Error{Errc::compute_failed, "the head gave logits of another vocabulary"};
  }
  const bool numbers =
      std::none_of(logits->begin(), logits->end(), [](float logit) { return std::isnan(logit); });
  if (!numbers) co_return Error{Errc::compute_failed, "the head gave a logit that is no number"};
  co_return logits;
}

net::Task<Result<Payload>> Generator::Impl::embed(Self self, std::uint32_t from,
                                                  std::uint32_t count) {
  if (!self) co_return Error{Errc::cancelled, {}};
  std::vector<TokenId> wanted;
  for (std::size_t at = from; at < std::size_t{from} + count; ++at) {
    const std::size_t guess = at - std::min(at, self->ids.size());
    if (at >= self->ids.size() && guess >= self->guesses.size()) {
      // Of a spare that is being filled with what was rejected since.
      co_return Error{Errc::position_gap, "positions that are no longer of the session"};
    }
    wanted.push_back(at < self->ids.size() ? self->ids[at] : self->guesses[guess]);
  }
  std::function<void(std::function<void(Result<Payload>)>)> start =
      [&head = self->head, wanted = std::move(wanted)](std::function<void(Result<Payload>)> done) {
        head.embed(wanted, std::move(done));
      };
  auto asking = self->ask<Payload>(std::move(start));
  Result<Payload> hidden = co_await std::move(asking);
  co_return hidden;
}

/// Waits for the answer of a head or a guesser, but not longer than until cancel(): a head may hold
/// its answers back for as long as its user likes. Fails with cancelled, then and at the deadline.
template <class T>
net::Task<Result<T>> Generator::Impl::ask(std::function<void(std::function<void(Result<T>)>)> start,
                                          TimePoint deadline) {
  struct Slot {
    explicit Slot(net::Clock& clock) : answered(clock) {}
    net::Event answered;
    std::optional<Result<T>> answer;
  };
  const auto slot = std::make_shared<Slot>(peers.clock());
  abandon = [slot] { slot->answered.set(); };
  std::function<void(Result<T>)> done = [slot](Result<T> answer) {
    slot->answer = std::move(answer);
    slot->answered.set();
  };
  start(std::move(done));
  co_await slot->answered.wait(deadline);
  abandon = nullptr;
  if (!slot->answer) co_return Error{Errc::cancelled, {}};
  co_return std::move(*slot->answer);
}

/// `first`: of those that one step gave, the one that carries its times.
wire::TokenMessage Generator::Impl::describe(const sampling::Choice& choice, std::uint32_t index,
                                             bool first) {
  wire::TokenMessage message;
  message.session = options.session;
  message.index = index;
  message.id = choice.id;
  message.logprob = choice.logprob;
  message.numerics_changed = earlier_numerics_changes + chain->numerics_changes() > 0;
  for (const auto& [id, logprob] : choice.top) message.top.push_back({id, logprob});
  const std::vector<HopReport> hops = chain->hops();
  std::vector<wire::Hop> route;
  for (const HopReport& hop : hops) {
    route.push_back({hop.address, hop.span});
    message.times.push_back(first ? hop.time : wire::HopTime{});
  }
  const bool same = std::equal(
      route.begin(), route.end(), told_route.begin(), told_route.end(),
      [](const auto& a, const auto& b) { return a.address == b.address && a.span == b.span; });
  if (!same) {
    message.route = route;
    told_route = std::move(route);
  }
  return message;
}

void Generator::Impl::cancel() {
  cancelled = true;
  if (abandon) abandon();
  close_chain();
}

void Generator::Impl::close_chain() {
  if (!chain) return;
  chain->close();
  next_epoch = chain->epoch() + 1;
  earlier_recoveries += chain->recoveries();
  earlier_numerics_changes += chain->numerics_changes();
  const auto& rows = chain->committed();
  earlier_committed.insert(earlier_committed.end(), rows.begin(), rows.end());
  chain.reset();
}

// --- Generator -----------------------------------------------------------------------------

Generator::Generator(PeerSet& peers, wire::Head& head, GeneratorOptions options,
                     std::function<void(const ChainEvent&)> on_event)
    : impl_(std::make_shared<Impl>(peers, head, std::move(options), std::move(on_event))) {}

Generator::~Generator() { impl_->cancel(); }

net::Task<Result<wire::Finish>> Generator::generate(Turn turn, OnToken on_token) {
  return Impl::generate(impl_, std::move(turn), std::move(on_token));
}

void Generator::cancel() { impl_->cancel(); }

const std::vector<TokenId>& Generator::ids() const noexcept { return impl_->ids; }

std::vector<HopReport> Generator::hops() const {
  return impl_->chain ? impl_->chain->hops() : std::vector<HopReport>{};
}

std::vector<CommittedRows> Generator::committed() const {
  std::vector<CommittedRows> all = impl_->earlier_committed;
  if (impl_->chain) {
    const auto& present = impl_->chain->committed();
    all.insert(all.end(), present.begin(), present.end());
  }
  return all;
}

std::uint32_t Generator::numerics_changes() const noexcept {
  return impl_->earlier_numerics_changes + (impl_->chain ? impl_->chain->numerics_changes() : 0);
}

std::uint32_t Generator::recoveries() const noexcept {
  return impl_->earlier_recoveries + (impl_->chain ? impl_->chain->recoveries() : 0);
}

}  // namespace farmesh::driver
