#include "client/conversation.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "client/local_runner.hpp"
#include "client/remote_runner.hpp"

namespace farmesh::client {
namespace {

FinishReason reason_of(wire::Finish finish) {
  switch (finish) {
    case wire::Finish::none: return FinishReason::none;
    case wire::Finish::stop: return FinishReason::stop;
    case wire::Finish::length: return FinishReason::length;
    case wire::Finish::cancelled: return FinishReason::cancelled;
  }
  return FinishReason::none;
}

bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Conversation::Conversation(const SharedModel& model, const SessionOptions& options)
    : model_(model),
      context_tokens_(model.context_of(options.context_tokens)),
      wishes_{options.warm_standby, options.activations} {}

std::unique_ptr<TurnRunner> Conversation::make_runner() {
  if (model_.head == nullptr) return std::make_unique<RemoteRunner>(model_, wishes_);
  // The gate is asked on the network thread only, while this conversation runs a turn.
  return std::make_unique<LocalRunner>(
      model_, *model_.head, context_tokens_, [this] { return !turn_ || !turn_->queue->full(); },
      wishes_);
}

void Conversation::start(TurnRequest request, std::shared_ptr<TokenQueue> queue) {
  FARMESH_ASSERT(!turn_);
  if (closed_ || queue->cancelled()) {
    queue->finish(FinishReason::cancelled, 0);
    return;
  }
  if (request.restart) {
    ids_.clear();
    runner_.reset();
  }
  ids_.insert(ids_.end(), request.ids.begin(), request.ids.end());
  // A reply is a text of its own; otherwise the output goes on behind whatever is there.
  const bool has_text = std::any_of(
      ids_.begin(), ids_.end(), [this](TokenId id) { return !model_.tokenizer->is_special(id); });
  const bool continuing = has_text && !request.transcript;
  const std::uint32_t room =
      context_tokens_ - std::min<std::uint32_t>(context_tokens_, std::uint32_t(ids_.size()));
  transcript_ = std::move(request.transcript);
  turn_.emplace(TurnState{
      .queue = std::move(queue),
      .stop_tokens = request.options.ignore_eos ? std::vector<TokenId>() : model_.eos_tokens,
      .limit = std::min(request.options.max_tokens, room),
      .detokenizer = text::Detokenizer(model_.tokenizer, continuing),
      .stops = StopFilter(request.options.stop),
      .prompt_begin = std::uint32_t(ids_.size() - request.ids.size()),
      .prompt_end = std::uint32_t(ids_.size()),
  });
  tell_again(request.options.resume);
  if (!runner_) runner_ = make_runner();
  model_.turns->began(shared_from_this());
  net::spawn(model_.runtime->executor(), "client turn",
             run(shared_from_this(), std::move(request)));
}

net::Task<void> Conversation::run(std::shared_ptr<Conversation> self, TurnRequest request) {
  const std::vector<TokenId>& resume = request.options.resume;
  const std::size_t ids_before = ids_.size() - request.ids.size() - resume.size();
  TurnInput input;
  input.ids = ids_;
  input.emitted = std::uint32_t(resume.size());
  input.traceparent = request.options.traceparent;
  input.bill = request.options.bill;
  input.nodes = request.options.nodes;
  input.max_tokens = turn_->limit;
  input.sampling = request.options.sampling;
  input.stop_tokens = turn_->stop_tokens;
  input.max_draft = request.options.max_draft;
  driver::OnToken on_token = [this](const wire::TokenMessage& message) { return accept(message); };

  const std::uint32_t recoveries_before = runner_->recoveries();
  Result<wire::Finish> finish = wire::Finish::cancelled;
  if (turn_->ended_before) {
    const bool by_token = contains(turn_->stop_tokens, ids_.back());
    finish = by_token ? wire::Finish::stop : wire::Finish::length;
  } else if (!turn_->queue->cancelled()) {  // between start() and here
    finish = co_await runner_->run(std::move(input), std::move(on_token));
  }
  const std::uint32_t recoveries = runner_->recoveries() - recoveries_before;
  end(std::move(finish), ids_before, recoveries);
  if (closed_) runner_.reset();  // what it stands on may go once the turn counts as ended
  model_.turns->ended(self);
}

void Conversation::tell_again(const std::vector<TokenId>& resume) {
  for (std::size_t i = 0; i < resume.size() && !turn_->ended_before; ++i) {
    const bool is_stop_token = contains(turn_->stop_tokens, resume[i]);
    const bool is_last = is_stop_token || i + 1 >= turn_->limit;
    ids_.push_back(resume[i]);
    Token token;
    token.id = resume[i];
    token.text = text_of(resume[i], is_stop_token, is_last);
    turn_->queue->push_again(std::move(token));
    turn_->ended_before = is_last || turn_->stopped_by_text;
  }
}

// The text that became complete with this token.
std::string Conversation::text_of(TokenId id, bool is_stop_token, bool is_last) {
  std::string text = is_stop_token ? std::string() : turn_->detokenizer.push(id);
  if (is_last) text += turn_->detokenizer.flush();
  StopFilter::Piece piece = turn_->stops.push(text);
  if (is_last && !piece.stopped) piece.text += turn_->stops.flush();
  turn_->stopped_by_text = piece.stopped;
  if (transcript_) transcript_->reply += piece.text;
  return std::move(piece.text);
}

bool Conversation::accept(const wire::TokenMessage& message) {
  const bool is_stop_token = contains(turn_->stop_tokens, message.id);
  const bool is_last = is_stop_token || message.index + 1 >= turn_->limit;
  ids_.push_back(message.id);
  tell_prompt();

  Token token{message.id, text_of(message.id, is_stop_token, is_last), message.logprob, {}};
  for (const wire::TopToken& top : message.top) token.top.push_back({top.id, top.logprob});
  turn_->queue->push(std::move(token), message, model_.runtime->clock().now());
  return !turn_->stopped_by_text && !turn_->queue->cancelled();
}

/// With the first token it is known who computed the prompt.
void Conversation::tell_prompt() {
  if (std::exchange(turn_->prompt_told, true)) return;
  std::vector<RouteUsage> routes;
  const std::vector<driver::CommittedRows> committed = runner_->committed();
  if (committed.empty()) return;
  for (const driver::CommittedRows& rows : committed) {
    const std::uint32_t begin = std::max(rows.begin, turn_->prompt_begin);
    const std::uint32_t end = std::min(rows.end, turn_->prompt_end);
    if (begin >= end) continue;
    RouteUsage& route = routes.emplace_back();
    route.tokens = end - begin;
    for (const wire::Hop& hop : rows.route) route.hops.push_back({hop.address, hop.span, 0});
  }
  turn_->queue->prompt_made(std::move(routes));
}

void Conversation::end(Result<wire::Finish> finish, std::size_t ids_before,
                       std::uint32_t recoveries) {
  const TurnState turn = std::move(*turn_);
  turn_.reset();
  // The text and the ids part ways when a stop string cut the one and not the other.
  if (turn.stopped_by_text || !finish || *finish == wire::Finish::cancelled) transcript_.reset();

  if (turn.stopped_by_text) {
    turn.queue->finish(FinishReason::stop, recoveries);
  } else if (finish) {
    turn.queue->finish(reason_of(*finish), recoveries);
  } else if (finish.error().code == Errc::cancelled) {
    turn.queue->finish(FinishReason::cancelled, recoveries);
  } else {
    // A turn that failed before its first token leaves the session as it was.
    if (turn.queue->usage().tokens == 0) ids_.resize(ids_before);
    runner_.reset();
    turn.queue->fail(finish.error(), recoveries);
  }
}

void Conversation::resume() {
  if (turn_ && runner_) runner_->poke();
}

void Conversation::cancel(const std::shared_ptr<TokenQueue>& queue) {
  if (!turn_ || turn_->queue != queue) return;
  runner_->cancel();
  runner_->poke();
}

void Conversation::close() {
  closed_ = true;
  if (turn_) {
    turn_->queue->cancel();
    cancel(turn_->queue);
  } else {
    runner_.reset();
  }
}

}  // namespace farmesh::client
