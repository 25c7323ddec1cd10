// The platform's own calls: generate in its forms, and requests by their id.
#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "gateway/json_writer.hpp"
#include "gateway/limits.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/platform_codec.hpp"
#include "gateway/routes.hpp"
#include "gateway/services.hpp"
#include "gateway/trace.hpp"

namespace farmesh::gateway {
namespace {

void refuse(http::Responder& responder, const Problem& problem, std::string_view request_id = {}) {
  http::Headers headers;
  if (problem.retry_after_s > 0) headers.add("Retry-After", std::to_string(problem.retry_after_s));
  responder.json(problem.status, platform_error(problem, request_id), std::move(headers));
}

enum class Form { raw, chat, distributed };

/// One generate call, from its body to its last event.
class Generation {
 public:
  Generation(Services& services, PlatformRequest request, Admitted admitted, std::string digest,
             std::optional<Resumption> resumption)
      : services_(services), request_(std::move(request)) {
    if (resumption) request_.request_id = resumption->turn.request_id;
    if (request_.request_id.empty()) request_.request_id = "req-" + draw_id();
    record_.owner = admitted.caller.account;
    record_.body_digest = std::move(digest);
    record_.stream = random_seed();
    record_.answer.request_id = request_.request_id;
    headers_ = admitted.headers;
    order_.admitted = std::move(admitted);
    order_.request_id = request_.request_id;
    order_.body_digest = record_.body_digest;
    order_.max_cost = request_.max_cost;
    order_.tier = request_.tier;
    order_.resumption = std::move(resumption);
  }

  void run(Form form, const http::Request& request, http::Responder responder) {
    if (const std::optional<Problem> wrong = prepare(form)) {
      return refuse(responder, *wrong, request_.request_id);
    }
    order_.traceparent = continue_trace(request.header("traceparent"));
    order_.http_request_id = request.id;
    if (request_.stream) keep(request);
    if (order_.resumption) {
      services_.requests.take_over(record_);
    } else {
      const auto opened = services_.requests.open(record_);
      if (!opened) return refuse(responder, opened.problem(), request_.request_id);
      if (*opened) return replay(**opened, std::move(responder));
    }

    const auto turn = LiveTurn::open(services_, std::move(order_), responder);
    if (!turn) {
      end(RequestStatus::failed, turn.problem());
      return refuse(responder, turn.problem(), request_.request_id);
    }
    turn_ = *turn;
    services_.requests.set_cancel(record_, [turn = turn_] { turn->cancel(); });
    request_.stream ? stream(std::move(responder)) : whole(std::move(responder));
  }

 private:
  std::optional<Problem> prepare(Form form) {
    const Caller& caller = order_.admitted.caller;
    if (!request_.user_wallet.empty() && lower(request_.user_wallet) != caller.wallet) {
      return Problem{403, "wallet_not_authenticated",
                     "user_wallet is not the wallet that is logged in.", "user_wallet"};
    }
    const Checked<HostedModel*> model = find_model(services_, request_.model);
    if (!model) return model.problem();
    order_.model = *model;
    record_.answer.model_id = order_.model->options.id;
    TurnInput input;
    input.prompt = form == Form::chat
                       ? TurnPrompt(std::vector<ChatMessage>{{"user", request_.prompt}})
                       : TurnPrompt(request_.prompt);
    input.options = request_.generate;
    input.options.max_tokens = request_.max_tokens;
    input.options.max_draft = services_.options.max_draft;
    if (order_.resumption) {
      input.options.sampling.seed = order_.resumption->turn.seed;
    } else if (!request_.has_seed) {
      input.options.sampling.seed = random_seed();
    }
    order_.inputs.push_back(std::move(input));
    return std::nullopt;
  }

  void keep(const http::Request& request) {
    CachedTurn& kept = order_.kept;
    kept.path = request.path;
    kept.body = request.body;
    kept.body_digest = record_.body_digest;
    kept.fingerprint = fingerprint(*order_.model);
    kept.seed = order_.inputs.front().options.sampling.seed;
  }

  static std::string lower(std::string text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    return text;
  }

  /// The same request again, after its answer was complete: the same answer, and no second bill.
  void replay(const RequestRecord& known, http::Responder responder) {
    if (!request_.stream) return responder.json(200, platform_answer(known.answer), headers_);
    http::EventStream events = responder.events(headers_);
    record_ = known;
    const PlatformAnswer& answer = record_.answer;
    events.write({.data = platform_token_event(answer.text, answer.request_id,
                                               answer.tokens_generated, answer.cost)});
    events.write({.data = done_event()});
    events.end();
  }

  std::string done_event() const {
    const PlatformAnswer& answer = record_.answer;
    return platform_done_event({answer.request_id, answer.tokens_generated, answer.cost,
                                answer.latency_ms, answer.finish, answer.fallback});
  }

  void mark_origin() {
    record_.answer.fallback = turn_->origin() != Origin::mesh;
    if (record_.answer.fallback) headers_.add(kFallbackHeader, "true");
  }

  void deliver(const Token& token) {
    turn_->delivered(0);
    note(token);
  }

  void note(const Token& token) {
    PlatformAnswer& answer = record_.answer;
    answer.text += token.text;
    answer.tokens_generated = turn_->delivered_tokens();
    answer.cost = turn_->cost();
    services_.requests.add_text(record_, token.text);
  }

  /// The next item that the client does not have.
  Checked<std::optional<Turn::Item>> next() {
    while (true) {
      Checked<std::optional<Turn::Item>> item = turn_->next();
      if (!item || !*item || !(*item)->told) return item;
      if ((*item)->token) {
        note(*(*item)->token);
      } else {
        record_.answer.finish = name((*item)->finish);
      }
    }
  }

  void end(RequestStatus status, const std::optional<Problem>& problem = std::nullopt) {
    record_.status = status;
    record_.problem = problem;
    if (turn_) {
      turn_->describe(record_.answer);
      turn_->finish(status_of(status), problem);
    }
    services_.requests.close(record_);
  }

  void whole(http::Responder responder) {
    std::vector<Token> tokens;
    while (true) {
      Checked<std::optional<Turn::Item>> item = turn_->next();
      if (!item) {
        end(RequestStatus::failed, item.problem());
        return refuse(responder, item.problem(), request_.request_id);
      }
      if (!*item) break;
      if (!(*item)->token) {
        record_.answer.finish = name((*item)->finish);
      } else {
        tokens.push_back(*std::move((*item)->token));
      }
    }
    const bool cancelled = record_.answer.finish == name(FinishReason::cancelled);
    if (responder.closed()) return end(RequestStatus::cancelled);
    mark_origin();
    for (const Token& token : tokens) deliver(token);
    end(cancelled ? RequestStatus::cancelled : RequestStatus::completed);
    responder.json(200, platform_answer(record_.answer), headers_);
  }

  void stream(http::Responder responder) {
    Checked<std::optional<Turn::Item>> item = next();
    if (!item) {
      end(RequestStatus::failed, item.problem());
      return refuse(responder, item.problem(), request_.request_id);
    }
    mark_origin();
    http::EventStream events = responder.events(headers_);
    bool open = true;
    while (open && item && *item) {
      if (const std::optional<Token>& token = (*item)->token) {
        // The event tells the cost with this token in it.
        open = put(events,
                   platform_token_event(token->text, request_.request_id,
                                        turn_->delivered_tokens() + 1, turn_->cost(1)),
                   (*item)->number);
        if (open) deliver(*token);
      } else {
        record_.answer.finish = name((*item)->finish);
      }
      if (open) item = next();
    }
    if (!item) {
      end(RequestStatus::failed, item.problem());
      events.write({.data = platform_error(item.problem(), request_.request_id)});
      return events.end();
    }
    const bool cancelled = record_.answer.finish == name(FinishReason::cancelled);
    if (!open || events.closed()) return end(RequestStatus::cancelled);
    end(cancelled ? RequestStatus::cancelled : RequestStatus::completed);
    put(events, done_event(), turn_->items());
    events.end();
  }

  /// `items`: how many the client has with this event.
  bool put(http::EventStream& events, const std::string& data, std::size_t items) const {
    const std::string id = event_id(request_.request_id, items);
    return events.write({.data = data, .id = id}) == http::Written::yes;
  }

  Services& services_;
  PlatformRequest request_;
  RequestRecord record_;
  http::Headers headers_;
  TurnOrder order_;
  std::shared_ptr<LiveTurn> turn_;
};

void generate(Services& services, Form form, const http::Request& request,
              http::Responder responder) {
  Checked<PlatformRequest> parsed = parse_platform_request(request.body);
  if (!parsed) return refuse(responder, parsed.problem());
  const Checked<Admitted> admitted = services.gatekeeper.admit(request);
  if (!admitted) return refuse(responder, admitted.problem(), parsed->request_id);
  std::string digest = to_hex(sha256(std::as_bytes(std::span(request.body))));
  auto resumption = parsed->stream ? find_resumption(services, request, admitted->caller, digest)
                                   : Checked<std::optional<Resumption>>(std::nullopt);
  if (!resumption) return refuse(responder, resumption.problem(), parsed->request_id);
  Generation(services, *std::move(parsed), *admitted, std::move(digest), *std::move(resumption))
      .run(form, request, std::move(responder));
}

Form form_of(std::string_view path) {
  if (path == "/api/inference/chat") return Form::chat;
  return path == "/api/inference/distributed/generate" ? Form::distributed : Form::raw;
}

/// The rest of a stream, for clients that cannot send the body again.
void resume(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return refuse(responder, caller.problem());
  const std::string id(request.parameter("request_id"));
  const auto found = services.turns->find(id);
  if (!found) return refuse(responder, problem_of(found.error()));
  if (!*found || (*found)->account != caller->account) {
    return refuse(responder, {404, "stream_not_found", "No stream of this request_id.", {}}, id);
  }
  http::Request again = request;
  again.method = "POST";
  again.path = (*found)->path;
  again.body = (*found)->body;
  const auto last = parse_event_id(request.header("Last-Event-ID").value_or(""));
  again.headers.set("Last-Event-ID",
                    event_id(id, last && last->request_id == id ? last->items : 0));
  if (again.path == "/v1/chat/completions") {
    answer_chat(services, again, std::move(responder));
  } else if (again.path == "/v1/completions") {
    answer_completion(services, again, std::move(responder));
  } else {
    generate(services, form_of(again.path), again, std::move(responder));
  }
}

/// What a generate call with this body may cost at most: what would be set aside for it.
void quote(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<PlatformRequest> parsed = parse_platform_request(request.body);
  if (!parsed) return refuse(responder, parsed.problem());
  const Checked<HostedModel*> model = find_model(services, parsed->model);
  if (!model) return refuse(responder, model.problem());
  const HostedModelOptions& options = (*model)->options;
  const std::uint32_t tokens =
      std::min(parsed->max_tokens, (*model)->model->state().summary.context_tokens);
  const auto output = options.price_per_token.times(tokens);
  const auto prompt = options.price_per_prompt_token.times(
      std::int64_t(most_prompt_tokens({TurnInput{parsed->prompt, {}}})));
  const auto all = output && prompt ? output->plus(*prompt) : std::nullopt;
  if (!all) return refuse(responder, invalid_request("invalid_value", "Beyond any amount."));
  JsonWriter json;
  json.begin_object().field("model_id", options.id).field("max_tokens", tokens);
  json.raw_field("price_per_token_far", options.price_per_token.to_string());
  json.raw_field("price_per_prompt_token_far", options.price_per_prompt_token.to_string());
  responder.json(200, json.raw_field("max_cost_far", all->to_string()).end_object().take());
}

// The layers of a share, which need not be one run of them.
void add_nodes(std::vector<NodeUsed>& nodes, const Contribution& share) {
  const std::vector<std::uint32_t>& layers = share.layers;
  for (std::size_t from = 0, to = 0; from < layers.size(); from = to) {
    while (to < layers.size() && layers[to] - layers[from] == to - from) ++to;
    nodes.push_back({share.node_id, {layers[from], layers[to - 1] + 1}});
  }
}

/// What the ledger keeps of a request for ever: everything but its text and how that ended.
std::optional<RequestRecord> find_in_ledger(Services& services, const std::string& request_id) {
  if (!services.ledger) return std::nullopt;
  std::optional<RequestRecord> record;
  std::optional<LedgerTime> began;
  for (unsigned link = 0;; ++link) {
    const auto session = services.ledger->session_of_request(session_request_id(request_id, link));
    if (!session) return record;
    if (!record) record.emplace();
    if (!began) began = session->started_at;
    record->owner = session->user_wallet;
    record->status = status_of(session->status);
    record->problem.reset();
    if (!session->error_message.empty()) {
      record->problem = Problem{500, "session_failed", session->error_message, {}};
    }
    PlatformAnswer& answer = record->answer;
    answer.request_id = request_id;
    answer.model_id = session->model_id;
    answer.tokens_generated += session->tokens_generated;
    answer.cost = answer.cost.plus(session->total_cost).value_or(answer.cost);
    const LedgerTime ended = session->ended_at.value_or(services.store->now());
    answer.latency_ms = (ended - *began).count();
    for (const Contribution& share : session->contributions) add_nodes(answer.nodes, share);
  }
}

/// The record of {request_id}, if it is this caller's; another's is as unknown as none.
Checked<RequestRecord> find_request(Services& services, const http::Request& request) {
  const Checked<Caller> caller = services.gatekeeper.authenticate(request);
  if (!caller) return caller.problem();
  const std::string id(request.parameter("request_id"));
  auto record = services.requests.find(id);
  if (!record) record = find_in_ledger(services, id);
  if (!record || (record->owner != caller->account && !caller->is_admin)) {
    return Problem{404, "not_found", "No request with this request_id.", {}};
  }
  return *record;
}

void show_request(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<RequestRecord> record = find_request(services, request);
  if (!record) return refuse(responder, record.problem());
  responder.json(200, platform_status(record->answer, name(record->status), record->problem));
}

void cancel_request(Services& services, const http::Request& request, http::Responder responder) {
  const Checked<RequestRecord> record = find_request(services, request);
  if (!record) return refuse(responder, record.problem());
  const bool cancelled = services.requests.cancel(record->answer.request_id);
  responder.json(200,
                 platform_status(record->answer,
                                 cancelled ? name(RequestStatus::cancelled) : name(record->status),
                                 record->problem));
}

}  // namespace

void add_platform_routes(http::Router& router, Services& services) {
  const auto to = [&services](auto handle) {
    return [&services, handle](const http::Request& request, http::Responder responder) {
      handle(services, request, std::move(responder));
    };
  };
  const auto form = [&services](Form form) {
    return [&services, form](const http::Request& request, http::Responder responder) {
      generate(services, form, request, std::move(responder));
    };
  };
  const http::RouteOptions generating{.max_body_bytes = kMaxBodyBytes, .long_running = true};
  router.post("/inference/generate", form(Form::raw), generating);
  router.post("/api/inference/generate", form(Form::raw), generating);
  router.post("/api/inference/chat", form(Form::chat), generating);
  router.post("/api/inference/distributed/generate", form(Form::distributed), generating);
  router.post("/api/inference/quote", to(quote), {.max_body_bytes = kMaxBodyBytes});
  router.get("/api/inference/{request_id}", to(show_request));
  router.get("/api/inference/{request_id}/events", to(resume), {.long_running = true});
  router.add("DELETE", "/api/inference/{request_id}", to(cancel_request));
}

}  // namespace farmesh::gateway
