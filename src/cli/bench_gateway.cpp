// farmesh bench gateway: what the coordinator adds to a model's tokens, how many it can hold, and
// how fast it keeps its books.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include "base/thread.hpp"
#include "cli/bench.hpp"
#include "cli/bench_clients.hpp"
#include "cli/stand_in_model.hpp"
#include "gateway/coordinator.hpp"
#include "http/echo_bench.hpp"
#include "http/server.hpp"

namespace farmesh::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTokens = 5'000;  // of a round
constexpr int kStreams = 100;
constexpr std::chrono::milliseconds kPace{20};
constexpr int kStreamTokens = 400;
constexpr int kIdle = 10'000;

// An event as the platform's call streams it.
const std::string kEvent =
    R"({"token":" word","request_id":"0123456789abcdef","tokens_generated":12,"cost_far":"0.0012"})";

/// A coordinator as it serves: over a ledger on disk, everybody's requests on the public account.
struct Served {
  static Result<std::unique_ptr<Served>> start(const std::string& folder,
                                               std::chrono::microseconds pace);

  std::shared_ptr<StandInModel> model;
  gateway::ModelHost host;
  std::unique_ptr<gateway::Coordinator> coordinator;
  std::unique_ptr<http::Server> server;  // goes first
};

Result<std::unique_ptr<Served>> Served::start(const std::string& folder,
                                              std::chrono::microseconds pace) {
  LedgerOptions ledger;
  ledger.url = folder + "/gateway.sqlite";
  auto store = ledger::Store::open(std::move(ledger));
  if (!store) return store.error();
  auto served = std::make_unique<Served>();
  served->model = std::make_shared<StandInModel>(pace);
  served->host.add({"bench/stand-in", "", Far::from_units(10'000), Far()}, served->model);
  gateway::CoordinatorOptions options;
  options.coordinator_id = "bench";
  options.public_budget = *Far::parse("1000000");
  options.gatekeeper.open_to_public = true;
  options.gatekeeper.public_requests = 0;
  options.queue = {.places = kStreams, .waiting = kStreams, .per_account = kStreams};
  served->coordinator =
      std::make_unique<gateway::Coordinator>(std::move(options), served->host, *store);
  http::ServerOptions serving;
  serving.max_long_requests = kStreams;
  serving.max_connections = kIdle + 2 * kStreams;
  serving.max_connections_per_address = serving.max_connections;
  serving.idle_timeout = std::chrono::hours(1);
  serving.render = gateway::Coordinator::render;
  serving.on_finished = [coordinator = served->coordinator.get()](const auto& finished) {
    coordinator->finished(finished);
  };
  auto server = http::Server::start(served->coordinator->router(), std::move(serving));
  if (!server) return server.error();
  served->server = *std::move(server);
  return served;
}

BenchRow row(std::string what, double value, std::string unit) {
  BenchRow row;
  row.bench = "gateway";
  row.what = std::move(what);
  row.value = value;
  row.unit = std::move(unit);
  return row;
}

void beside(BenchRow& row, std::string what, double value) {
  row.beside = std::move(what);
  row.other = value;
}

void bound(BenchRow& row, std::string text, bool held) {
  row.bound = std::move(text);
  row.held = held;
}

std::string post(const std::string& path, const std::string& body) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{}", path,
                     body.size(), body);
}

std::string platform_call(int tokens) {
  return post("/inference/generate", fmt::format(R"({{"prompt":"Once","max_tokens":{}}})", tokens));
}

std::string chat_call(int tokens) {
  return post("/v1/chat/completions",
              fmt::format(R"({{"model":"bench/stand-in","stream":true,"max_tokens":{},)"
                          R"("messages":[{{"role":"user","content":"Once"}}]}})",
                          tokens));
}

// --- a token's CPU
// --------------------------------------------------------------------------------

double cpu_us(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return double(time.tv_sec) * 1e6 + double(time.tv_nsec) / 1e3;
}

// Of this process without the thread that measures, which is the client.
double others_cpu_us() {
  return cpu_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_us(CLOCK_THREAD_CPUTIME_ID);
}

// Threads run where the one that starts them does: servers on the first core, then the client on
// it too, or on the next.
Result<double> echo_us(int cores) {
  pin_this_thread(0);
  auto echo = http::BeastEcho::start();
  pin_this_thread(cores - 1);
  if (!echo) return echo.error();
  auto client = BareClient::connect((*echo)->port());
  if (!client) return client.error();
  const std::string request = post("/", kEvent);
  const double before = others_cpu_us();
  for (int i = 0; i < kTokens; ++i) {
    if (const Result<void> sent = client->send(request); !sent) return sent.error();
    if (const Result<void> came = client->await(kEvent); !came) return came.error();
  }
  const double cpu = (others_cpu_us() - before) / kTokens;
  const BareClient gone = *std::move(client);  // before the server that waits for it
  return cpu;
}

// Each token is read before the next is made, so that none share a packet or a wake-up.
Result<double> token_us(Served& served, const std::string& call, std::string_view end) {
  auto client = BareClient::connect(served.server->port());
  if (!client) return client.error();
  const double before = others_cpu_us();
  if (const Result<void> sent = client->send(call); !sent) return sent.error();
  for (int i = 0; i < kTokens; ++i) {
    served.model->allow();
    if (const Result<void> came = client->await(StandInModel::kWord); !came) return came.error();
  }
  const double cpu = (others_cpu_us() - before) / kTokens;
  if (const Result<void> came = client->await(end); !came) return came.error();
  return cpu;
}

Result<Rows> token_rows(const std::string& folder, int rounds, int cores) {
  pin_this_thread(0);
  auto served = Served::start(folder, std::chrono::microseconds::zero());
  pin_this_thread(cores - 1);
  if (!served) return served.error();
  std::vector<double> echo, platform, chat;
  for (int round = 0; round < rounds; ++round) {
    const std::pair<std::vector<double>*, Result<double>> figures[] = {
        {&echo, echo_us(cores)},
        {&platform, token_us(**served, platform_call(kTokens), "\"done\":true")},
        {&chat, token_us(**served, chat_call(kTokens), "[DONE]")}};
    for (const auto& [all, figure] : figures) {
      if (!figure) return figure.error();
      all->push_back(*figure);
    }
  }
  Rows rows{row("token, platform's call", median(platform), "µs CPU"),
            row("token, OpenAI's chat", median(chat), "µs CPU")};
  for (BenchRow& row : rows) {
    row.shape = cores == 1 ? "1 core" : "2 cores";
    beside(row, "bare Beast echo", median(echo));
    // Across cores most of it is the waking of an idle one, of which the echo has as much.
    if (cores == 1) bound(row, "under 30 µs", row.value < 30);
    if (cores == 2) bound(row, "under 30 µs above it", row.value - row.other < 30);
  }
  return rows;
}

// The same on one core, and with client and server on two.
Result<Rows> all_token_rows(const std::string& folder, int rounds) {
  Result<Rows> rows = Rows();
  const int cores = available_cores();
  std::thread measuring = start_thread("bench", [&] {  // the caller's own stays where it is
    rows = token_rows(folder, rounds, 1);
    if (!rows || cores < 2) return;
    const Result<Rows> apart = token_rows(folder, rounds, 2);
    if (!apart) {
      rows = apart.error();
      return;
    }
    rows->insert(rows->end(), apart->begin(), apart->end());
  });
  measuring.join();
  return rows;
}

// --- many streams
// ---------------------------------------------------------------------------------

double resident_kib() {
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * double(::sysconf(_SC_PAGESIZE)) / 1024;
}

struct Heard {
  std::chrono::microseconds longest_gap{0};
  double resident_kib = 0;  // while every stream was in its middle
};

Result<Heard> hear(std::vector<BareClient>& clients) {
  struct Stream {
    int tokens = 0;
    Clock::time_point last;
  };
  std::vector<Stream> streams(clients.size());
  std::vector<pollfd> waiting;
  for (const BareClient& client : clients) waiting.push_back({client.descriptor(), POLLIN, 0});
  Heard heard;
  std::size_t running = clients.size(), halfway = 0;
  while (running > 0) {
    if (::poll(waiting.data(), waiting.size(), 30'000) <= 0) {
      return {Errc::timeout, "a stream stood still"};
    }
    for (std::size_t i = 0; i < clients.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      const Result<int> came = clients[i].read(StandInModel::kWord);
      if (!came) return came.error();
      if (*came == 0) continue;
      Stream& stream = streams[i];
      const Clock::time_point now = Clock::now();
      if (stream.tokens > 0) {
        heard.longest_gap =
            std::max(heard.longest_gap,
                     std::chrono::duration_cast<std::chrono::microseconds>(now - stream.last));
      }
      stream.last = now;
      const bool was_first_half = stream.tokens < kStreamTokens / 2;
      stream.tokens += *came;
      if (was_first_half && stream.tokens >= kStreamTokens / 2 && ++halfway == clients.size()) {
        heard.resident_kib = resident_kib();
      }
      if (stream.tokens < kStreamTokens) continue;
      waiting[i].fd = -1;
      --running;
    }
  }
  return heard;
}

Result<Rows> stream_rows(const std::string& folder) {
  auto served = Served::start(folder, kPace);
  if (!served) return served.error();
  std::vector<BareClient> clients;
  ::malloc_trim(0);
  const double before = resident_kib();
  for (int i = 0; i < kStreams; ++i) {
    auto client = BareClient::connect((*served)->server->port());
    if (!client) return client.error();
    if (const Result<void> sent = client->send(platform_call(kStreamTokens)); !sent) {
      return sent.error();
    }
    clients.push_back(*std::move(client));
  }
  const Result<Heard> heard = hear(clients);
  if (!heard) return heard.error();
  const auto ms = [](std::chrono::microseconds time) { return double(time.count()) / 1'000; };
  BenchRow gap =
      row(fmt::format("{} streams, longest gap", kStreams), ms(heard->longest_gap), "ms");
  beside(gap, fmt::format("as made, {} ms apart", kPace.count()),
         ms((*served)->model->longest_gap()));
  bound(gap, "at most 50 ms", gap.value <= 50);
  BenchRow memory = row("memory a stream", (heard->resident_kib - before) / kStreams, "KiB");
  bound(memory, "under 1,024 KiB", memory.value < 1'024);
  return Rows{std::move(gap), std::move(memory)};
}

// --- idle connections
// -----------------------------------------------------------------------------

Result<Rows> idle_rows(const std::string& folder) {
  const int count = std::min(kIdle, raise_descriptor_limit() - 500);
  auto served = Served::start(folder, kPace);
  if (!served) return served.error();
  const std::uint16_t port = (*served)->server->port();
  const std::string request = "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n";
  ::malloc_trim(0);
  const double before = resident_kib();
  const auto held = HeldConnections::open(port, request, count);
  if (!held) return held.error();
  ::malloc_trim(0);
  const double each = (resident_kib() - before) / count;
  const int connections = (*served)->server->stats().connections;
  auto client = BareClient::connect(port);
  if (!client) return client.error();
  const Clock::time_point asked = Clock::now();
  if (const Result<void> sent = client->send(request); !sent) return sent.error();
  if (const Result<void> came = client->await("healthy"); !came) return came.error();
  const std::chrono::duration<double, std::milli> answered = Clock::now() - asked;
  BenchRow idle = row("idle connections held", connections, "");
  bound(idle, "10,000", connections >= kIdle);
  return Rows{std::move(idle), row("memory of each", each, "KiB"),
              row("an answer beside them", answered.count(), "ms")};
}

}  // namespace

Result<Rows> bench_gateway(const BenchOptions& options) {
  const Result<ScratchFolder> scratch = ScratchFolder::make(options.folder);
  if (!scratch) return scratch.error();
  const std::string& folder = scratch->path();
  Result<Rows> rows = all_token_rows(folder, options.rounds);
  for (const auto part : {stream_rows, idle_rows, ledger_rows}) {
    if (!rows) return rows;
    const Result<Rows> more = part(folder);
    if (!more) return more;
    rows->insert(rows->end(), more->begin(), more->end());
  }
  return rows;
}

}  // namespace farmesh::cli
