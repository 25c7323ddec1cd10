#include "weights/hub.hpp"

#include <utility>

#include "base/log.hpp"
#include "http/url.hpp"
#include "weights/content_range.hpp"

namespace farmesh::weights {
namespace {

constexpr int kMaxRedirects = 8;

http::ClientOptions client_options() {
  http::ClientOptions options;
  options.max_redirects = kMaxRedirects;
  return options;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string header(const http::ClientReply& reply, std::string_view name) {
  return std::string(reply.headers.get(name).value_or(""));
}

}  // namespace

Hub::Hub(HubOptions options) : options_(std::move(options)), client_(client_options()) {}

Result<std::unique_ptr<Hub>> Hub::create(HubOptions options) {
  const Result<http::Url> url = http::parse_url(options.url);
  if (!url || !url->query.empty()) {
    return Error{Errc::config_invalid,
                 "the hub's URL: " + (url ? "has a query" : url.error().detail)};
  }
  if (options.revision.empty()) return Error{Errc::config_invalid, "no revision of the model"};
  if (!options.token.empty() && !url->secure() && !is_loopback(url->host)) {
    log(LogLevel::warning, "weights", "the hub's token is not sent: the hub has no TLS");
    options.token.clear();
  }
  std::unique_ptr<Hub> hub(new Hub(std::move(options)));
  std::string base = url->to_string();
  while (base.ends_with('/')) base.pop_back();
  const std::string& model = hub->options_.model;
  const std::size_t slash = model.find('/');
  hub->base_ = base + "/" + http::percent_encode(model.substr(0, slash)) + "/" +
               http::percent_encode(model.substr(slash + 1)) + "/resolve/" +
               http::percent_encode(hub->options_.revision) + "/";
  hub->host_ = url->host;
  return hub;
}

http::ClientRequest Hub::request_for(const std::string& file) const {
  http::ClientRequest request;
  request.url = base_ + http::percent_encode(file);
  request.headers.add("Accept-Encoding", "identity");
  // The client takes it off where a redirect leads to another host.
  if (!options_.token.empty()) request.headers.add("Authorization", "Bearer " + options_.token);
  return request;
}

Error Hub::refusal(int status, const std::string& file) const {
  const std::string what = file + " of " + options_.model + " at " + options_.revision;
  if (status == 404) return {Errc::model_not_found, host_ + " has no " + what};
  if (status == 401 || status == 403) {
    return {Errc::hub_refused, host_ + " wants a token that may read " + options_.model +
                                   (options_.token.empty() ? ": set HF_TOKEN" : "")};
  }
  if (status == 416) return {Errc::hub_changed, host_ + " has a shorter " + what + " now"};
  const bool may_pass = status == 408 || status == 429 || status >= 500;
  return {may_pass ? Errc::busy : Errc::hub_refused,
          host_ + " answers " + std::to_string(status) + " for " + what};
}

Result<WholeFile> Hub::whole(const std::string& file, std::size_t max_bytes) {
  WholeFile result;
  int status = 0;
  bool too_long = false;
  const auto on_head = [&](const http::ClientReply& reply) {
    status = reply.status;
    return status == 200;
  };
  const auto on_body = [&](std::string_view bytes) {
    too_long = result.bytes.size() + bytes.size() > max_bytes;
    if (!too_long) result.bytes += bytes;
    return !too_long;
  };
  const auto reply = client_.stream(request_for(file), on_head, on_body);
  if (status != 0 && status != 200) return refusal(status, file);
  if (too_long) return Error{Errc::frame_too_large, file + " at " + host_ + " is too long"};
  if (!reply) return reply.error();
  result.etag = header(*reply, "ETag");
  result.commit = header(*reply, "X-Repo-Commit");
  return result;
}

Result<void> Hub::range(const std::string& file, std::uint64_t begin, std::uint64_t end,
                        const OnVersion& on_version, const OnBytes& on_bytes) {
  http::ClientRequest request = request_for(file);
  request.range_first = begin;
  request.range_last = end - 1;
  Result<void> outcome;
  std::uint64_t expected = 0;
  const auto on_head = [&](const http::ClientReply& reply) {
    if (reply.status == 200) {
      outcome = {Errc::bad_http, host_ + " does not send parts of files"};
    } else if (reply.status != 206) {
      outcome = refusal(reply.status, file);
    } else {
      const auto range = parse_content_range(header(reply, "Content-Range"));
      if (!range || range->begin != begin || range->end != std::min(end, range->length)) {
        outcome = {Errc::bad_http, host_ + " sends another part of " + file + " than asked for"};
      } else {
        expected = range->end - range->begin;
        outcome = on_version({range->length, header(reply, "ETag")});
      }
    }
    return outcome.has_value();
  };
  const auto on_body = [&](std::string_view bytes) {
    if (bytes.size() > expected) {
      outcome = {Errc::bad_http, host_ + " sends more of " + file + " than asked for"};
      return false;
    }
    expected -= bytes.size();
    outcome = on_bytes(bytes);
    return outcome.has_value();
  };
  const auto reply = client_.stream(request, on_head, on_body);
  if (!outcome) return outcome;
  if (!reply) return reply.error();
  if (expected > 0) return {Errc::connection_lost, host_ + " sent too little of " + file};
  return {};
}

}  // namespace farmesh::weights
