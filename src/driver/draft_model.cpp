#include "driver/draft_model.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "net/event.hpp"

namespace farmesh::driver {
namespace {

constexpr std::uint32_t kReadAtOnce = 64;  // rows; a step waits for no more of them
constexpr std::uint32_t kAhead = 256;      // positions promised beyond those that are needed

}  // namespace

struct DraftModel::Impl : std::enable_shared_from_this<DraftModel::Impl> {
  using Self = std::shared_ptr<Impl>;

  Impl(PeerSet& p, wire::Head& h, const DraftModelOptions& o) : peers(p), head(h), options(o) {}

  static net::Task<void> run(Self self, std::uint32_t most, Done done);
  net::Task<Result<std::vector<TokenId>>> guessed(std::uint32_t most);
  net::Task<Result<void>> make_room(std::uint32_t positions);
  net::Task<Result<TokenId>> likeliest(Payload row);
  static net::Task<Result<Payload>> embed(Self self, std::uint32_t from, std::uint32_t count);
  std::uint32_t follow(std::span<const TokenId> ids);
  void close();

  PeerSet& peers;
  wire::Head& head;
  const DraftModelOptions options;
  std::vector<TokenId> text;  // the ids, and the guess behind them
  std::optional<Chain> chain;
  std::uint32_t promised = 0;  // positions of the chain
  bool busy = false;           // a guess is under way
  bool failed = false;
  bool closed = false;
};

/// Makes the text these ids. Returns how many positions of it the cache holds.
std::uint32_t DraftModel::Impl::follow(std::span<const TokenId> ids) {
  const auto differ = std::mismatch(text.begin(), text.end(), ids.begin(), ids.end()).first;
  const auto shared = static_cast<std::uint32_t>(differ - text.begin());
  text.assign(ids.begin(), ids.end());
  if (!chain) return 0;
  // The last is run once more where nothing is new: a guess begins with its row.
  const auto last = static_cast<std::uint32_t>(ids.size()) - 1;
  chain->reject(std::min(shared, last));
  return chain->positions();
}

net::Task<void> DraftModel::Impl::run(Self self, std::uint32_t most, Done done) {
  auto guessing = self->guessed(most);
  Result<std::vector<TokenId>> result = co_await std::move(guessing);
  self->busy = false;
  if (self->closed) co_return;
  if (!result) {
    self->failed = true;
    self->close();
    log(LogLevel::warning, "driver", "the draft model failed: guessing goes on without it",
        {{"error", result.error().to_string()}});
  }
  done(result ? *std::move(result) : std::vector<TokenId>());
}

/// Reads what of the text is not in the cache, then guesses `most` tokens.
net::Task<Result<std::vector<TokenId>>> DraftModel::Impl::guessed(std::uint32_t most) {
  const auto end = static_cast<std::uint32_t>(text.size()) + std::max(most, 1u) - 1;
  auto preparing = make_room(end);
  const Result<void> prepared = co_await std::move(preparing);
  if (!prepared) co_return prepared.error();
  std::vector<TokenId> tokens;
  do {
    const std::uint32_t from = chain->positions();
    const auto count = static_cast<std::uint32_t>(text.size()) - from;
    const wire::Want want = most > 0 ? wire::Want::last_row : wire::Want::nothing;
    auto stepping = chain->step(from, count, want);
    Result<Payload> row = co_await std::move(stepping);
    if (!row) co_return row.error();
    if (most == 0) break;
    auto choosing = likeliest(std::move(*row));
    const Result<TokenId> token = co_await std::move(choosing);
    if (!token) co_return token.error();
    tokens.push_back(*token);
    text.push_back(*token);
  } while (tokens.size() < most);
  co_return tokens;
}

/// Opens the chain, or raises what it promised, so that the cache has room for `positions`.
net::Task<Result<void>> DraftModel::Impl::make_room(std::uint32_t positions) {
  if (closed) co_return Error{Errc::cancelled, {}};
  if (chain && positions <= promised) co_return Result<void>();
  promised = std::min(options.max_position, positions + kAhead);
  if (chain) {
    auto extending = chain->extend(promised, {});
    const Result<void> extended = co_await std::move(extending);
    co_return extended;
  }
  ChainOptions wanted;
  wanted.session = options.session;
  wanted.num_layers = options.num_layers;
  wanted.hidden_size = options.hidden_size;
  wanted.residual = options.residual;
  wanted.max_positions = promised;
  // Nobody else could take over: rather no guesses than a step that waits.
  wanted.capacity_patience = std::chrono::milliseconds::zero();
  wanted.route_patience = std::chrono::milliseconds::zero();
  Chain::Inputs inputs = [weak = weak_from_this()](std::uint32_t from, std::uint32_t count) {
    return embed(weak.lock(), from, count);
  };
  chain.emplace(peers, std::move(inputs), std::move(wanted));
  auto opening = chain->open();
  const Result<std::uint32_t> opened = co_await std::move(opening);
  if (!opened) co_return opened.error();
  co_return Result<void>();
}

net::Task<Result<TokenId>> DraftModel::Impl::likeliest(Payload row) {
  std::function<void(std::function<void(Result<std::vector<float>>)>)> start =
      [this, row = std::move(row)](std::function<void(Result<std::vector<float>>)> done) {
        head.logits(row, 1, std::move(done));
      };
  auto asking = net::await_callback<Result<std::vector<float>>>(peers.clock(), std::move(start));
  const Result<std::vector<float>> logits = co_await std::move(asking);
  if (!logits) co_return logits.error();
  if (logits->size() != options.vocab_size) {
    co_return Error{Errc::compute_failed, "the head gave logits of another vocabulary"};
  }
  const auto known = logits->begin() + std::min(options.shared_ids, options.vocab_size);
  co_return static_cast<TokenId>(std::max_element(logits->begin(), known) - logits->begin());
}

net::Task<Result<Payload>> DraftModel::Impl::embed(Self self, std::uint32_t from,
                                                   std::uint32_t count) {
  if (!self || from + std::size_t{count} > self->text.size()) {
    co_return Error{Errc::cancelled, {}};
  }
  const auto begin = self->text.begin() + from;
  std::vector<TokenId> ids(begin, begin + count);
  std::function<void(std::function<void(Result<Payload>)>)> start =
      [&head = self->head, ids = std::move(ids)](std::function<void(Result<Payload>)> done) {
        head.embed(ids, std::move(done));
      };
  auto asking = net::await_callback<Result<Payload>>(self->peers.clock(), std::move(start));
  Result<Payload> rows = co_await std::move(asking);
  co_return rows;
}

void DraftModel::Impl::close() {
  if (chain) chain->close();
}

// --- DraftModel ----------------------------------------------------------------------------

DraftModel::DraftModel(PeerSet& peers, wire::Head& head, const DraftModelOptions& options)
    : impl_(std::make_shared<Impl>(peers, head, options)) {}

DraftModel::~DraftModel() {
  impl_->closed = true;
  impl_->close();
}

void DraftModel::guess(std::span<const TokenId> ids, std::uint32_t most, Done done) {
  Impl& impl = *impl_;
  if (impl.busy || impl.failed || ids.empty() || ids.size() > impl.options.max_position) {
    return done({});
  }
  const std::uint32_t held = impl.follow(ids);
  const auto room = impl.options.max_position - static_cast<std::uint32_t>(ids.size());
  most = std::min(most, room + 1);  // the last guess is not run
  if (ids.size() - held > kReadAtOnce) {
    done({});
    most = 0;
    done = [](const std::vector<TokenId>&) {};
  }
  impl.busy = true;
  net::spawn(impl.peers.clock().executor(), "driver draft",
             Impl::run(impl_, most, std::move(done)));
}

}  // namespace farmesh::driver
