#include "cli/registration.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/thread.hpp"
#include "evm/address.hpp"
#include "gateway/node_signature.hpp"

namespace farmesh::cli {
namespace {

using nlohmann::ordered_json;

constexpr const char* kEnter = "/api/nodes/register-distributed";
constexpr const char* kBeat = "/api/nodes/heartbeat";
constexpr std::chrono::milliseconds kCallTime{15'000};
constexpr std::chrono::milliseconds kFarewellTime{1'000};

http::ClientOptions client_options(std::chrono::milliseconds total_time) {
  http::ClientOptions options;
  options.total_timeout = total_time;
  options.max_body_bytes = 64 * 1024;
  return options;
}

std::string without_slash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

/// "fp32" of "f32/exact-2/fma".
std::string quantization(const std::string& numerics_class) {
  const std::string precision = numerics_class.substr(0, numerics_class.find('/'));
  if (precision == "f32") return "fp32";
  return precision == "f16" ? "fp16" : precision;
}

std::int64_t unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string body_of(const NodeFacts& facts) {
  const std::vector<node::Gpu>& gpus = facts.hardware.gpus;
  std::uint64_t vram_bytes = 0;
  for (const node::Gpu& gpu : gpus) vram_bytes += gpu.memory_bytes;
  ordered_json body{
      {"node_id", facts.node_id},          {"wallet_address", ""},
      {"model_id", facts.model_id},        {"gpu_model", gpus.empty() ? "" : gpus.front().name},
      {"vram_gb", vram_bytes >> 30},       {"public_addr", facts.public_addr},
      {"location", facts.location},        {"signature", ""},
      {"cpu_cores", facts.hardware.cores}, {"ram_gb", facts.hardware.memory_bytes >> 30}};
  if (facts.wallet) {
    body["wallet_address"] = evm::to_string(facts.wallet->statement.wallet);
    body["wallet_statement"] = *evm::statement_text(facts.wallet->statement);
    body["signature"] = "0x" + to_hex(facts.wallet->signature.to_bytes());
  }
  if (!facts.layers.empty()) {
    body["span"] = {{"start", facts.layers.begin}, {"end", facts.layers.end}};
    body["total_layers"] = facts.num_layers;
    body["quantization"] = quantization(facts.numerics_class);
  }
  return body.dump();
}

}  // namespace

Registration::Registration(RegistrationOptions options, NodeFacts facts,
                           std::function<NodeFigures()> figures)
    : options_(std::move(options)),
      facts_(std::move(facts)),
      figures_(std::move(figures)),
      client_(client_options(kCallTime)),
      farewell_(client_options(kFarewellTime)),
      last_beat_(std::chrono::steady_clock::now()) {
  thread_ = start_thread("registration", [this] { run(); });
}

Registration::~Registration() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  cancellation_.cancel();
  thread_.join();
}

void Registration::run() {
  bool registered = false;
  std::chrono::milliseconds retry = options_.first_retry;
  std::unique_lock lock(mutex_);
  while (!ending_) {
    lock.unlock();
    if (registered) registered = beat(true);
    if (!registered) registered = enter();
    if (registered && reached_) look_at_earnings();
    lock.lock();
    std::chrono::milliseconds pause = options_.heartbeat;
    if (!registered || !reached_) {
      pause = std::min(retry, options_.heartbeat);
      retry *= 2;
    } else {
      retry = options_.first_retry;
    }
    changed_.wait_for(lock, pause, [this] { return ending_; });
  }
  lock.unlock();
  // Whoever could not be reached a moment ago is not waited for now.
  calling_ = &farewell_;
  if (registered && reached_) beat(false);
}

bool Registration::enter() {
  const Result<http::ClientReply> reply = post(kEnter, body_of(facts_));
  if (!reply) return false;
  if (reply->status != 200) {
    complain(
        fmt::format("registration refused with {}: {}", reply->status, reply->body.substr(0, 300)));
    return false;
  }
  last_complaint_.clear();
  log(LogLevel::info, "registry", "registered at " + options_.url);
  return true;
}

bool Registration::beat(bool healthy) {
  const NodeFigures figures = figures_();
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - last_beat_).count();
  const std::uint64_t rows = figures.rows - std::min(figures.rows, last_rows_);
  ordered_json body{{"node_id", facts_.node_id},
                    {"is_healthy", healthy},
                    {"current_requests", figures.sessions},
                    {"throughput_tokens_per_sec", seconds > 0 ? double(rows) / seconds : 0.0}};
  if (figures.layer_us > 0) {
    body["latency_ms"] = double(figures.layer_us) * facts_.layers.size() / 1e3;
  }
  if (!facts_.layers.empty()) body["model_id"] = facts_.model_id;
  last_beat_ = now;
  last_rows_ = figures.rows;
  const Result<http::ClientReply> reply = post(kBeat, body.dump());
  if (!reply) return true;  // it may be back, and remember
  if (reply->status == 404) return false;
  if (reply->status != 200) {
    complain(
        fmt::format("heartbeat refused with {}: {}", reply->status, reply->body.substr(0, 300)));
    return true;
  }
  last_complaint_.clear();
  const auto answer = nlohmann::json::parse(reply->body, nullptr, false);
  if (answer.is_object() && answer.value("should_rebalance", nlohmann::json(false)) == true) {
    log(LogLevel::info, "registry", "other layers of this model have no node");
  }
  return true;
}

/// A registry that does not tell is asked again next time: nobody needs to know that it did not.
void Registration::look_at_earnings() {
  const auto now = std::chrono::steady_clock::now();
  if (!options_.on_earnings || !facts_.wallet || now < next_earnings_) return;
  next_earnings_ = now + options_.earnings_every;
  http::ClientRequest request;
  request.url = without_slash(options_.url) + "/api/nodes/earnings/" +
                evm::to_string(facts_.wallet->statement.wallet);
  const Result<http::ClientReply> reply = client_.send(request, cancellation_);
  if (!reply || reply->status != 200) return;
  const std::optional<Earnings> earnings = read_earnings(reply->body);
  if (!earnings) return;
  std::string text = text_of(*earnings);
  if (text == told_earnings_) return;
  told_earnings_ = std::move(text);
  options_.on_earnings(*earnings);
}

Result<http::ClientReply> Registration::post(const std::string& path, const std::string& body) {
  last_signed_ms_ = std::max(unix_ms(), last_signed_ms_ + 1);
  const Result<std::string> signature = facts_.sign(
      gateway::kRequestDomain, gateway::signed_text("POST", path, last_signed_ms_, body));
  if (!signature) return signature.error();
  http::ClientRequest request;
  request.method = "POST";
  request.url = without_slash(options_.url) + path;
  request.body = body;
  request.headers = gateway::signature_headers(facts_.public_key, last_signed_ms_, *signature);
  request.headers.add("Content-Type", "application/json");
  Result<http::ClientReply> reply =
      calling_ == &client_ ? client_.send(request, cancellation_) : farewell_.send(request);
  reached_ = reply || reply.error().code == Errc::cancelled;
  if (!reply && reply.error().code != Errc::cancelled) complain(reply.error().to_string());
  return reply;
}

void Registration::complain(const std::string& what) {
  if (what == last_complaint_) return;
  last_complaint_ = what;
  log(LogLevel::warning, "registry", options_.url + ": " + what);
}

}  // namespace farmesh::cli
