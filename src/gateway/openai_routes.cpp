// /v1/models, /v1/chat/completions and /v1/completions.
#include <chrono>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "gateway/limits.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/openai_reply.hpp"
#include "gateway/openai_request.hpp"
#include "gateway/routes.hpp"
#include "gateway/services.hpp"
#include "gateway/trace.hpp"
#include "text/utf8.hpp"

namespace farmesh::gateway {
namespace {

void refuse(http::Responder& responder, const Problem& problem) {
  http::Headers headers;
  if (problem.retry_after_s > 0) headers.add("Retry-After", std::to_string(problem.retry_after_s));
  responder.json(problem.status, openai_error(problem), std::move(headers));
}

/// One request's answer: what differs between a chat and a completion, and how both are told.
class Answer {
 public:
  Answer(Services& services, const OpenAiOptions& options, bool chat)
      : services_(services), options_(options), chat_(chat) {}

  /// Adds `choices` sequences of this prompt; `echo` is text that each begins with.
  void add(const TurnPrompt& prompt, const std::string& echo = {}) {
    for (std::uint32_t i = 0; i < options_.choices; ++i) {
      TurnInput input{prompt, options_.generate};
      input.options.max_draft = services_.options.max_draft;
      input.options.max_tokens = options_.max_tokens.value_or(services_.options.default_max_tokens);
      inputs_.push_back(std::move(input));
      Choice choice;
      choice.text = echo;
      choice.with_logprobs = options_.logprobs;
      choices_.push_back(std::move(choice));
    }
  }

  void run(const http::Request& request, http::Responder responder) {
    Checked<Admitted> admitted = services_.gatekeeper.admit(request);
    if (!admitted) return refuse(responder, admitted.problem());
    headers_ = admitted->headers;
    const Checked<HostedModel*> model = find_model(services_, options_.model);
    if (!model) return refuse(responder, model.problem());
    hosted_ = *model;
    const std::string digest = to_hex(sha256(std::as_bytes(std::span(request.body))));
    auto resumption = options_.stream
                          ? find_resumption(services_, request, admitted->caller, digest)
                          : Checked<std::optional<Resumption>>(std::nullopt);
    if (!resumption) return refuse(responder, resumption.problem());
    fill_head(*resumption ? &(*resumption)->turn : nullptr);
    if (const auto refused = open_record(admitted->caller.account, digest, resumption->has_value());
        refused) {
      return refuse(responder, *refused);
    }

    TurnOrder order;
    order.model = hosted_;
    order.inputs = std::move(inputs_);
    for (std::size_t i = 0; i < order.inputs.size(); ++i) {
      order.inputs[i].options.sampling.seed = seed_ + i;
    }
    order.may_shorten = !options_.max_tokens;
    order.admitted = *std::move(admitted);
    order.request_id = head_.id;
    order.max_cost = options_.max_cost;
    order.tier = options_.tier;
    order.traceparent = continue_trace(request.header("traceparent"));
    order.http_request_id = request.id;
    if (options_.stream) keep(request, digest, order.kept);
    resumed_ = resumption->has_value();
    order.resumption = *std::move(resumption);
    const auto turn = LiveTurn::open(services_, std::move(order), responder);
    if (!turn) {
      end(SessionStatus::failed, turn.problem());
      return refuse(responder, turn.problem());
    }
    turn_ = *turn;
    services_.requests.set_cancel(record_, [turn = turn_] { turn->cancel(); });
    options_.stream ? stream(std::move(responder)) : whole(std::move(responder));
  }

 private:
  static Problem was_cancelled() {
    return {499, "cancelled", "This request was cancelled by its id.", {}};
  }

  /// So that others may ask for it, and cancel it, by the id of its answer.
  std::optional<Problem> open_record(const std::string& account, const std::string& digest,
                                     bool resumes) {
    record_.owner = account;
    record_.body_digest = digest;
    record_.stream = random_seed();
    record_.answer.request_id = head_.id;
    record_.answer.model_id = head_.model;
    if (resumes) {
      services_.requests.take_over(record_);
      return std::nullopt;
    }
    const auto opened = services_.requests.open(record_);
    return opened ? std::nullopt : std::optional(opened.problem());
  }

  /// The bill, and what is told of the request from now on.
  void end(SessionStatus status, const std::optional<Problem>& problem = std::nullopt) {
    record_.status = status_of(status);
    record_.problem = problem;
    if (turn_) {
      turn_->describe(record_.answer);
      turn_->finish(status, problem);
    }
    services_.requests.close(record_);
  }

  void fail(http::Responder& responder, const Problem& problem) {
    end(SessionStatus::failed, problem);
    refuse(responder, problem);
  }

  /// Of several choices the first one's text is told.
  void note(std::uint32_t sequence, const Token& token) {
    const std::string_view text = sequence == 0 ? std::string_view(token.text) : std::string_view();
    record_.answer.text += text;
    record_.answer.tokens_generated = turn_->delivered_tokens();
    record_.answer.cost = turn_->cost();
    services_.requests.add_text(record_, text);
  }

  void note_end(const Turn::Item& item) {
    if (item.index == 0) record_.answer.finish = name(item.finish);
    cancelled_ = cancelled_ || item.finish == FinishReason::cancelled;
  }

  /// `before`: the stream that this one goes on with, if it does.
  void fill_head(const CachedTurn* before) {
    head_.id = before != nullptr ? before->request_id : (chat_ ? "chatcmpl-" : "cmpl-") + draw_id();
    head_.created = before != nullptr ? before->created
                                      : std::chrono::duration_cast<std::chrono::seconds>(
                                            std::chrono::system_clock::now().time_since_epoch())
                                            .count();
    if (before != nullptr) seed_ = before->seed;
    head_.model = hosted_->options.id;
    head_.fingerprint = fingerprint(*hosted_);
    head_.include_usage = options_.include_usage;
    bytes_ = [model = hosted_->model](TokenId id) { return model->token_bytes(id); };
  }

  void keep(const http::Request& request, const std::string& digest, CachedTurn& kept) const {
    kept.path = request.path;
    kept.body = request.body;
    kept.body_digest = digest;
    kept.fingerprint = head_.fingerprint;
    kept.created = head_.created;
    kept.seed = seed_;
  }

  // Other weights may have answered, or other numerics: that is no seed's promise any more.
  void mark_origin() {
    if (turn_->origin() == Origin::mesh) return;
    head_.fingerprint = "fp_fallback";
    headers_.add(kFallbackHeader, "true");
  }

  TokenCounts counts() const {
    return {turn_->prompt_tokens(), turn_->delivered_tokens(), turn_->cached_prompt_tokens(),
            options_.include_nodes ? turn_->nodes_used() : std::vector<NodeUsed>()};
  }

  void whole(http::Responder responder) {
    while (true) {
      Checked<std::optional<Turn::Item>> item = turn_->next();
      if (!item) return fail(responder, item.problem());
      if (!*item) break;
      Choice& choice = choices_[(*item)->index];
      if (!(*item)->token) {
        choice.reason = (*item)->finish;
        note_end(**item);
        continue;
      }
      choice.text += (*item)->token->text;
      if ((*item)->index == 0) record_.answer.text += (*item)->token->text;
      ++made_[(*item)->index];
      if (choice.with_logprobs) choice.tokens.push_back(*std::move((*item)->token));
    }
    if (responder.closed()) return end(SessionStatus::cancelled);
    if (cancelled_) {
      end(SessionStatus::cancelled);
      return refuse(responder, was_cancelled());
    }
    for (const auto& [sequence, tokens] : made_) {
      for (std::uint32_t i = 0; i < tokens; ++i) turn_->delivered(sequence);
    }
    mark_origin();
    const std::string cost = turn_->cost().to_string();
    end(SessionStatus::completed);  // the bill stands before the answer is out
    std::string body = chat_ ? chat_reply(head_, choices_, counts(), cost, bytes_)
                             : completion_reply(head_, choices_, counts(), cost, bytes_);
    responder.json(200, std::move(body), headers_);
  }

  void stream(http::Responder responder) {
    // A refusal that the first token brings still has its own status.
    Checked<std::optional<Turn::Item>> item = next();
    if (!item) return fail(responder, item.problem());
    mark_origin();
    http::EventStream events = responder.events(headers_);
    bool open = resumed_ || begin(events);
    while (open && item && *item) {
      open = write(events, **item);
      if (open) item = next();
    }
    if (!item) {
      end(SessionStatus::failed, item.problem());
      events.write({.data = openai_error(item.problem())});
      return events.end();
    }
    if (!open || events.closed()) return end(SessionStatus::cancelled);
    if (cancelled_) {
      end(SessionStatus::cancelled);
      events.write({.data = openai_error(was_cancelled())});
      return events.end();
    }
    end(SessionStatus::completed);
    if (options_.include_usage) {
      put(events, usage_chunk(head_, chat_, counts(), turn_->cost().to_string()),
          turn_->items() + 1);
    }
    events.write({.data = "[DONE]"});
    events.end();
  }

  /// The next item that the client does not have.
  Checked<std::optional<Turn::Item>> next() {
    while (true) {
      Checked<std::optional<Turn::Item>> item = turn_->next();
      if (!item || !*item || !(*item)->told) return item;
      if (!(*item)->token) {
        note_end(**item);
        continue;
      }
      pass(**item);
      note((*item)->index, *(*item)->token);
    }
  }

  bool begin(http::EventStream& events) {
    head_.cost_far = turn_->cost().to_string();
    for (std::uint32_t i = 0; i < choices_.size(); ++i) {
      if (chat_ && !put(events, chat_role_chunk(head_, i), 0)) return false;
      if (choices_[i].text.empty()) continue;
      if (!put(events, completion_chunk(head_, i, choices_[i].text, {}, false, 0, bytes_), 0)) {
        return false;
      }
    }
    return true;
  }

  void pass(const Turn::Item& item) {
    if (!chat_ && choices_[item.index].with_logprobs) {
      offsets_[item.index] += text::count_chars(item.token->text);
    }
  }

  bool write(http::EventStream& events, const Turn::Item& item) {
    Choice& choice = choices_[item.index];
    head_.cost_far = turn_->cost(item.token ? 1 : 0).to_string();
    if (!item.token) {
      note_end(item);
      if (item.finish == FinishReason::cancelled) return true;  // told when all have ended
      return put(events,
                 chat_ ? chat_finish_chunk(head_, item.index, item.finish)
                       : completion_finish_chunk(head_, item.index, item.finish),
                 item.number);
    }
    const Token& token = *item.token;
    // A token without whole characters yet says nothing, unless its probability was asked for.
    if (!token.text.empty() || choice.with_logprobs) {
      const std::span<const Token> one(&token, 1);
      const std::string chunk =
          chat_ ? chat_chunk(head_, item.index, token.text, one, choice.with_logprobs, bytes_)
                : completion_chunk(head_, item.index, token.text, one, choice.with_logprobs,
                                   offsets_[item.index], bytes_);
      if (!put(events, chunk, item.number)) return false;
      pass(item);
    }
    turn_->delivered(item.index);
    note(item.index, token);
    return true;
  }

  /// `items`: how many the client has with this event.
  bool put(http::EventStream& events, const std::string& data, std::size_t items) const {
    const std::string id = event_id(head_.id, items);
    return events.write({.data = data, .id = id}) == http::Written::yes;
  }

  Services& services_;
  const OpenAiOptions options_;
  const bool chat_;
  bool resumed_ = false;
  bool cancelled_ = false;  // by its id, or by a stream that goes on with it
  RequestRecord record_;
  std::uint64_t seed_ = options_.has_seed ? options_.generate.sampling.seed : random_seed();
  std::vector<TurnInput> inputs_;
  std::vector<Choice> choices_;
  std::map<std::uint32_t, std::uint32_t> made_;   // tokens of each sequence
  std::map<std::uint32_t, std::size_t> offsets_;  // characters of each sequence
  HostedModel* hosted_ = nullptr;
  http::Headers headers_;
  ReplyHead head_;
  TokenBytes bytes_;
  std::shared_ptr<LiveTurn> turn_;
};

void chat(Services& services, const http::Request& request, http::Responder responder) {
  Checked<ChatRequest> parsed = parse_chat_request(request.body);
  if (!parsed) return refuse(responder, parsed.problem());
  Answer answer(services, parsed->options, true);
  answer.add(std::move(parsed->messages));
  answer.run(request, std::move(responder));
}

void complete(Services& services, const http::Request& request, http::Responder responder) {
  Checked<CompletionRequest> parsed = parse_completion_request(request.body);
  if (!parsed) return refuse(responder, parsed.problem());
  Answer answer(services, parsed->options, false);
  for (const Prompt& prompt : parsed->prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      answer.add(*text, parsed->echo ? *text : std::string());
    } else if (parsed->echo) {
      return refuse(responder,
                    invalid_request("unsupported_parameter",
                                    "'echo' of token ids is not served here yet.", "echo"));
    } else {
      answer.add(std::get<std::vector<TokenId>>(prompt));
    }
  }
  answer.run(request, std::move(responder));
}

void list_models(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return refuse(responder, caller.problem());
  std::vector<ListedModel> listed;
  for (const auto& hosted : services.models.models()) {
    listed.push_back({hosted->options.id, hosted->created});
  }
  responder.json(200, model_list(listed));
}

void show_model(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return refuse(responder, caller.problem());
  const Checked<HostedModel*> model = find_model(services, std::string(request.parameter("id")));
  if (!model) return refuse(responder, model.problem());
  responder.json(200, model_object({(*model)->options.id, (*model)->created}));
}

}  // namespace

void answer_chat(Services& services, const http::Request& request, http::Responder responder) {
  chat(services, request, std::move(responder));
}

void answer_completion(Services& services, const http::Request& request,
                       http::Responder responder) {
  complete(services, request, std::move(responder));
}

void add_openai_routes(http::Router& router, Services& services) {
  const auto to = [&services](auto handle) {
    return [&services, handle](const http::Request& request, http::Responder responder) {
      handle(services, request, std::move(responder));
    };
  };
  const http::RouteOptions generating{.max_body_bytes = kMaxBodyBytes, .long_running = true};
  router.get("/v1/models", to(list_models));
  router.get("/v1/models/{id*}", to(show_model));
  router.post("/v1/chat/completions", to(chat), generating);
  router.post("/v1/completions", to(complete), generating);
}

}  // namespace farmesh::gateway
