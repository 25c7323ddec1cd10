// farmesh bench batch: what many sessions gain from sharing every pass over the weights.
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include <farmesh/farmesh.hpp>

#include "cli/bench.hpp"
#include "cli/terminal.hpp"

namespace farmesh::cli {
namespace {

constexpr std::uint32_t kSessions = 16;
constexpr std::uint32_t kTokens = 32;
constexpr double kFloor = 4;

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

Result<BenchRow> batch_of(const BenchOptions& options, const std::string& shape) {
  const Result<std::string> folder = synthetic_model(options, shape);
  if (!folder) return folder.error();
  const Waiting waiting("batch, " + shape);
  const Result<DistributedModel> model =
      DistributedModel::open({.folder = *folder, .local = true, .threads = options.threads});
  if (!model) return model.error();

  std::vector<double> many;
  std::vector<double> one;
  for (int round = -1; round < options.rounds; ++round) {  // the first one only warms up
    const Result<double> together = speed_of(*model, kSessions);
    if (!together) return together.error();
    const Result<double> alone = speed_of(*model, 1);
    if (!alone) return alone.error();
    if (round < 0) continue;
    many.push_back(*together);
    one.push_back(*alone);
  }
  BenchRow row{"batch",     shape,     "16 sessions, in all", median(many), "one session",
               median(one), "tokens/s"};
  row.bound = "ratio at least 4";
  row.held = row.ratio() >= kFloor;
  return row;
}

}  // namespace

Result<Rows> bench_batch(const BenchOptions& options) {
  Rows rows;
  for (const std::string& shape : options.shapes) {
    Result<BenchRow> row = batch_of(options, shape);
    if (!row) return row.error();
    rows.push_back(*std::move(row));
  }
  return rows;
}

}  // namespace farmesh::cli
