// farmesh bench batch: what many sessions gain from sharing every pass over the weights.
#include <chrono>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <farmesh/farmesh.hpp>

#include "cli/bench.hpp"
#include "cli/rival.hpp"
#include "cli/terminal.hpp"

namespace farmesh::cli {
namespace {

constexpr std::uint32_t kTokens = 32;  // of a prompt, and of what follows it
constexpr std::uint32_t kMostSessions = 256;
constexpr std::uint32_t kBoundSessions = 16;
constexpr double kFloor = 4;
constexpr double kRivalFloor = 1.1;  // of the faster of the rivals

// One turn: a prompt of kTokens, as many tokens of output.
Result<void> run_turn(const DistributedModel& model, std::uint32_t number) {
  SessionOptions session_options;
  session_options.context_tokens = 3 * kTokens;
  Result<Session> session = model.open_session(session_options);
  if (!session) return session.error();
  GenerateOptions options;
  options.max_tokens = kTokens;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  std::vector<TokenId> prompt;
  for (std::uint32_t i = 0; i < kTokens; ++i) prompt.push_back(number * kTokens + i);
  TokenStream stream = session->generate_ids(std::move(prompt), options);
  for (const Token& token : stream) (void)token;
  if (const std::optional<Error> error = stream.error()) return *error;
  return {};
}

// Output tokens a second of `sessions` turns at once, prompts included in the time.
Result<double> speed_of(const DistributedModel& model, std::uint32_t sessions) {
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::future<Result<void>>> turns;
  for (std::uint32_t i = 0; i < sessions; ++i) {
    turns.push_back(std::async(std::launch::async, [&model, i] { return run_turn(model, i); }));
  }
  Result<void> all;
  for (auto& turn : turns) {
    if (Result<void> ended = turn.get(); !ended) all = ended;
  }
  if (!all) return all.error();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  return sessions * kTokens / seconds.count();
}

struct Turns {
  std::uint32_t sessions;
  RivalColumns rivals;
  std::vector<double> speeds;
};

Result<Rows> batch_of(const BenchOptions& options, const std::string& shape, Precision precision) {
  const Result<std::string> folder = synthetic_model(options, shape);
  if (!folder) return folder.error();
  const Waiting waiting(fmt::format("batch, {} {}", shape, name(precision)));
  const Result<DistributedModel> model =
      DistributedModel::open({.folder = *folder,
                              .local = true,
                              .precision = precision,
                              .threads = options.threads,
                              .cache_tokens = kMostSessions * 3 * kTokens});
  if (!model) return model.error();

  const RivalColumns rivals(options, shape, precision);
  std::vector<Turns> all{{1, rivals, {}}};
  for (const std::uint32_t sessions : asked_or(options.sessions, {8, 16, 32})) {
    all.push_back({sessions, rivals, {}});
  }
  if (const Result<double> warm = speed_of(*model, all.back().sessions); !warm) return warm.error();
  const int rounds = (options.rounds + 1) / 2;  // many sessions take long
  for (int round = 0; round < rounds; ++round) {
    for (Turns& turns : all) {
      const Result<double> speed = speed_of(*model, turns.sessions);
      if (!speed) return speed.error();
      turns.speeds.push_back(*speed);
      if (turns.sessions == 1) continue;
      const Result<void> ran =
          turns.rivals.take({turns.sessions, kTokens, kTokens}, &RivalSpeed::generated);
      if (!ran) return ran.error();
    }
  }
  Rows rows;
  const double one = median(all.front().speeds);
  for (const Turns& turns : std::span(all).subspan(1)) {
    BenchRow row{"batch", shape};
    row.what = fmt::format("{}, {} sessions, in all", name(precision), turns.sessions);
    row.value = median(turns.speeds);
    row.beside = "one session";
    row.other = one;
    row.unit = "tokens/s";
    if (precision == Precision::bf16 && turns.sessions == kBoundSessions) {
      row.bound = "ratio at least 4";
      row.held = row.ratio() >= kFloor;
    }
    turns.rivals.append_to(row, kRivalFloor);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

Result<Rows> bench_batch(const BenchOptions& options) {
  Rows rows;
  for (const std::string& shape : options.shapes) {
    for (const Precision precision : asked_or(options.precisions, {Precision::bf16})) {
      const Result<Rows> more = batch_of(options, shape, precision);
      if (!more) return more.error();
      rows.insert(rows.end(), more->begin(), more->end());
    }
  }
  return rows;
}

}  // namespace farmesh::cli
