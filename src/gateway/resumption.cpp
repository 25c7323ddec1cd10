#include "gateway/resumption.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "gateway/closing.hpp"
#include "gateway/live_turn.hpp"
#include "gateway/services.hpp"
#include "ledger/session_rows.hpp"

namespace farmesh::gateway {
namespace {

constexpr unsigned kMaxLinks = 100;                    // sessions of one request
constexpr std::size_t kMaxItems = 100'000'000;         // no stream is so long
constexpr std::size_t kMaxPlainIdBytes = 240;          // longer ones are told by their hash
constexpr std::chrono::milliseconds kPatience{3'000};  // with nodes: its client waits

Problem unknown() {
  return {404,
          "stream_not_found",
          "No stream of this Last-Event-ID in the last hour; send the request without it.",
          {}};
}

// Ends a session of this request that is still open, as far as its client has it: by what the
// stream before this one knows, where that is in this process, or by what nodes prove.
Result<void> end_earlier(Services& services, const std::string& session_id,
                         const Resumption& resumption) {
  for (const auto& live : services.live.all()) {
    const auto progress = live->progress();
    if (!progress || progress->session_id != session_id) continue;
    const auto ended = services.ledger->finalize_session(
        {session_id, SessionStatus::failed, ledger::kAbandonedMessage, progress->log});
    const bool fine = ended || ended.error().code == Errc::ledger_conflict;
    return fine ? Result<void>() : ended.error();
  }
  auto abandoned = services.ledger->find_abandoned({.session_id = session_id});
  if (!abandoned) return abandoned.error();
  Closing closing(services, kPatience);
  const std::uint64_t told = resumption.told - std::min(resumption.told, resumption.charged);
  for (AbandonedSession& session : *abandoned) closing.add(std::move(session), told);
  closing.finish();
  return {};
}

// The sessions that the ledger has of this request, ended if need be, are added up.
std::optional<Problem> settle_earlier(Services& services, Resumption& resumption) {
  ContributionLedger& ledger = *services.ledger;
  const std::string& request_id = resumption.turn.request_id;
  for (unsigned link = 0; link < kMaxLinks; ++link) {
    resumption.session_request = session_request_id(request_id, link);
    Result<SessionRecord> session = ledger.session_of_request(resumption.session_request);
    if (!session && session.error().code == Errc::not_found) return std::nullopt;
    if (session && session->status == SessionStatus::active) {
      const auto closed = end_earlier(services, session->session_id, resumption);
      session = closed ? ledger.session(session->session_id) : closed.error();
    }
    if (!session) return problem_of(session.error());
    if (session->status == SessionStatus::active) {
      return problem_of({Errc::ledger_unavailable, "the stream before this one cannot be ended"});
    }
    resumption.charged += session->tokens_generated;
    resumption.prompt_charged = resumption.prompt_charged || session->prompt_tokens > 0;
  }
  return Problem{409, "too_many_resumptions", "This stream was resumed too often.", {}};
}

void gather_known(Resumption& resumption, bool metered) {
  const CachedTurn& turn = resumption.turn;
  resumption.known.resize(turn.max_tokens.size());
  std::uint64_t tokens = 0;
  std::size_t ends = 0;
  for (const CachedItem& item : turn.items) {
    if (item.sequence >= resumption.known.size()) continue;
    if (item.is_end()) {
      ++ends;
      continue;
    }
    // What no session has charged is made again, so that whoever makes it is paid for it.
    if (++tokens > resumption.charged && metered) continue;
    resumption.known[item.sequence].push_back(item.token);
  }
  if (metered && tokens < resumption.charged) {
    resumption.repeated = std::uint32_t(resumption.charged - tokens);
  }
  const bool all_charged = !metered || tokens <= resumption.charged;
  resumption.ended = ends == turn.max_tokens.size() && all_charged;
}

}  // namespace

std::string event_id(std::string_view request_id, std::size_t items) {
  return fmt::format("{}:{}", request_id, items);
}

std::optional<LastEvent> parse_event_id(std::string_view id) {
  const std::size_t colon = id.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view digits = id.substr(colon + 1);
  LastEvent last{std::string(id.substr(0, colon)), 0};
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), last.items);
  if (failure != std::errc() || end != digits.data() + digits.size() || last.items > kMaxItems) {
    return std::nullopt;
  }
  return last;
}

std::string session_request_id(const std::string& request_id, unsigned link) {
  if (link == 0) return request_id;
  // A client's own ids hold no spaces.
  if (request_id.size() <= kMaxPlainIdBytes) return fmt::format("{} +{}", request_id, link);
  const Sha256Digest digest = sha256(std::as_bytes(std::span(request_id)));
  return fmt::format("{} +{}", to_hex(digest), link);
}

Checked<std::optional<Resumption>> find_resumption(Services& services, const http::Request& request,
                                                   const Caller& caller,
                                                   const std::string& body_digest) {
  const std::string_view header = request.header("Last-Event-ID").value_or("");
  if (header.empty()) return std::optional<Resumption>();
  const std::optional<LastEvent> last = parse_event_id(header);
  if (!last) return unknown();
  Result<std::optional<CachedTurn>> found = services.turns->find(last->request_id);
  if (!found) return problem_of(found.error());
  if (!*found || (*found)->account != caller.account) return unknown();
  Resumption resumption;
  resumption.turn = **std::move(found);
  resumption.told = last->items;
  const CachedTurn& turn = resumption.turn;
  if (turn.body_digest != body_digest || turn.path != request.path) {
    return Problem{409, "request_id_reused", "This Last-Event-ID belongs to another request.", {}};
  }
  const HostedModel* hosted = services.models.find(turn.model_id);
  if (!turn.resumable || hosted == nullptr || fingerprint(*hosted) != turn.fingerprint) {
    return Problem{409,
                   "stream_not_resumable",
                   "What made this stream is not here to go on with it; send the request again.",
                   {}};
  }
  // Its client is here now: what may still run for it makes nothing that anybody reads.
  for (const auto& live : services.live.all()) {
    if (live->request_id() == turn.request_id) live->cancel();
  }
  const bool metered = services.ledger != nullptr;
  if (metered) {
    if (const std::optional<Problem> failed = settle_earlier(services, resumption)) return *failed;
  }
  gather_known(resumption, metered);
  log(LogLevel::info, "gateway",
      fmt::format("request {} goes on after item {}: {} known, {} tokens charged before",
                  turn.request_id, resumption.told, turn.items.size(), resumption.charged));
  return std::optional<Resumption>(std::move(resumption));
}

}  // namespace farmesh::gateway
