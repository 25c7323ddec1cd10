#include "cli/rival.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "cli/child_process.hpp"

namespace farmesh::cli {
namespace {

constexpr std::size_t kColumns = 8;  // that are read, of a row's ten

/// The numbers between the bars of a line; nothing if one is none.
std::optional<std::array<double, kColumns>> numbers_of(std::string_view line) {
  std::array<double, kColumns> numbers{};
  for (double& number : numbers) {
    const std::size_t bar = line.find('|');
    if (bar == std::string_view::npos) return std::nullopt;
    line.remove_prefix(bar + 1);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const char* end = line.data() + line.size();
    if (std::from_chars(line.data(), end, number).ec != std::errc()) return std::nullopt;
  }
  return numbers;
}

std::string last_line_of(const std::string& text) {
  const std::size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "nothing";
  const std::size_t before = text.rfind('\n', end);
  return text.substr(before + 1, end - before);
}

/// Tells once that there is no file.
void tell_missing(const std::string& file) {
  static std::set<std::string> told;
  if (told.insert(file).second) {
    fmt::print(stderr, "farmesh bench: there is no {}: no rivals beside its rows\n", file);
  }
}

Result<RivalSpeed> run(const Rival& rival, const std::string& weights, int threads,
                       const RivalLoad& load) {
  std::vector<std::string> command = rival.command;
  const std::uint32_t context = load.sessions * (load.prompt + load.generated);
  const auto option = [&command](const char* flag, std::string value) {
    command.insert(command.end(), {flag, std::move(value)});
  };
  option("-m", weights);
  option("-t", std::to_string(threads));
  option("-c", std::to_string(context));
  option("-npp", std::to_string(load.prompt));
  option("-ntg", std::to_string(load.generated));
  option("-npl", std::to_string(load.sessions));
  Result<ChildProcess> process = ChildProcess::start(command);
  if (!process) return process.error();
  const std::string output = process->read_all();
  const int status = process->wait();
  const std::string errors = process->errors();
  if (status != 0) {
    return {Errc::io_error, fmt::format("{} ended with {}: {}", rival.name, status,
                                        last_line_of(errors.empty() ? output : errors))};
  }
  // Some write the table to one, some to the other.
  Result<RivalSpeed> speed = read_rival_table(output + "\n" + errors, load);
  if (!speed) return {speed.error().code, rival.name + ": " + speed.error().detail};
  return speed;
}

}  // namespace

Result<Rival> parse_rival(std::string_view text) {
  const std::size_t sign = text.find('=');
  Rival rival;
  if (sign != std::string_view::npos) {
    rival.name = text.substr(0, sign);
    for (std::size_t at = sign + 1; at < text.size();) {
      const std::size_t end = std::min(text.find(' ', at), text.size());
      if (end > at) rival.command.emplace_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  if (rival.name.empty() || rival.command.empty()) {
    return {Errc::invalid_argument,
            "a rival is NAME=PROGRAM [ARGUMENT…], not '" + std::string(text) + "'"};
  }
  return rival;
}

Result<RivalSpeed> read_rival_table(std::string_view output, const RivalLoad& load) {
  while (!output.empty()) {
    const std::size_t end = std::min(output.find('\n'), output.size());
    const auto row = numbers_of(output.substr(0, end));
    output.remove_prefix(std::min(end + 1, output.size()));
    if (!row) continue;
    const auto [prompt, generated, sessions, kept, prefill_s, prefill, decode_s, decode] = *row;
    if (prompt != load.prompt || generated != load.generated || sessions != load.sessions) continue;
    const RivalSpeed speed{prefill, decode, sessions * generated / (prefill_s + decode_s)};
    for (const double figure : {speed.prefill, speed.decode, speed.generated}) {
      if (!std::isfinite(figure) || figure <= 0) {
        return {Errc::bad_payload, "its table has speeds that are none"};
      }
    }
    return speed;
  }
  return {Errc::bad_payload, "it printed no table of this load"};
}

RivalColumns::RivalColumns(const BenchOptions& options, const std::string& shape,
                           Precision precision)
    : threads_(options.threads) {
  if (options.rivals.empty()) return;
  const std::string file = fmt::format("{}.{}.gguf", shape, name(precision));
  const std::filesystem::path folder =
      options.rival_models.empty() ? options.folder : options.rival_models;
  weights_ = (folder / file).string();
  if (!std::filesystem::exists(weights_)) {
    tell_missing(weights_);
    return;
  }
  for (const Rival& rival : options.rivals) columns_.push_back({rival, {}});
}

Result<void> RivalColumns::take(const RivalLoad& load, double RivalSpeed::*figure) {
  for (Column& column : columns_) {
    const Result<RivalSpeed> speed = run(column.rival, weights_, threads_, load);
    if (!speed) return speed.error();
    column.figures.push_back((*speed).*figure);
  }
  return {};
}

void RivalColumns::append_to(BenchRow& row, double floor) const {
  double fastest = 0;
  for (const Column& column : columns_) {
    if (column.figures.empty()) return;
    row.rivals.push_back({column.rival.name, median(column.figures)});
    fastest = std::max(fastest, row.rivals.back().value);
  }
  if (columns_.empty()) return;
  const bool held = row.value >= floor * fastest;
  if (!row.bound.empty()) row.bound += ", ";
  row.bound += fmt::format("at least {:g} x the rivals", floor);
  row.held = row.held && held;
}

}  // namespace farmesh::cli
