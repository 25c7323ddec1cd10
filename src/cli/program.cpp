#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <farmesh/farmesh.hpp>

#include "base/log.hpp"
#include "cli/exit_code.hpp"
#include "cli/verbs.hpp"

namespace farmesh::cli {
namespace {

constexpr const char* kFarNode = "far-node";

constexpr const char* kFooter = R"(
Examples:
  farmesh demo
  farmesh generate --model models/demo --prompt "Once upon a time"
  farmesh node --model models/demo --layers 0:3 --listen 127.0.0.1:31330
  farmesh far-node start --model models/demo --bootstrap 203.0.113.7:31337
  farmesh generate --model models/demo --peer 127.0.0.1:31330 --peer 127.0.0.1:31331 --prompt "Hi"

Environment:
  FAR_MESH_DHT_BOOTSTRAP, DHT_BOOTSTRAP_NODES
                         as --bootstrap, where no flag says how to find peers
  FAR_NODE_MODEL, FAR_NODE_DTYPE, FAR_NODE_NUM_BLOCKS, FAR_NODE_PORT, FAR_NODE_PUBLIC_ADDR
                         what node serves, and where
  FAR_DISCOVERY_URL, FAR_NODE_WALLET, FAR_NODE_WALLET_PROOF
                         where node registers, and for whom
  LOG_LEVEL              debug, info, warning or error; default info for what serves, else error
  HF_TOKEN               token for models that want one, sent to the hub alone
  HF_ENDPOINT            as --hub
  FARMESH_CACHE_DIR      files that can be made again; default $XDG_CACHE_HOME/farmesh
  FARMESH_DATA_DIR       the node's key; default $XDG_DATA_HOME/farmesh
  POSTGRES_URL           the ledger; DATABASE_URL is read when it is not set
  ESCROW_CONTRACT_ADDRESS  as --escrow of payout and ledger
  DEFAULT_MODEL_ID       a flag of coordinator, as docs/cli.md lists them
  FARMESH_TORCH_LIBRARY  the compute engine; default libfarmesh_torch.so beside the program
  FARMESH_ISA            avx512bf16, avx512vnni, avx512, avx2 or portable kernels; default the
                         CPU's best
  NO_COLOR               any value: no colours

Exit codes: 0 done, 1 failure, 2 wrong use, 3 the model cannot be used, 4 no peer serves it,
5 peers are busy, 130 interrupted. docs/cli.md tells more.)";

// Providers know the program as far-node: `far-node start …`, under that name or as a verb, is
// `farmesh node …`.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (argc > 0 && std::filesystem::path(argv[0]).filename() == kFarNode) {
    words.insert(words.begin(), kFarNode);
  }
  if (words.size() >= 2 && words[0] == kFarNode && words[1] == "start") {
    words.erase(words.begin());
    words[0] = "node";
  }
  return words;
}

}  // namespace

int run_program(int argc, char** argv) {
  CLI::App program("Large language models served by many machines.", "farmesh");
  program.set_version_flag("--version", "farmesh " + std::string(version()));
  program.require_subcommand(1);
  program.footer(kFooter);
  program.get_formatter()->column_width(34);

  Run run;
  add_generate(program, run);
  add_chat(program, run);
  add_node(program, run);
  add_coordinator(program, run);
  add_discovery(program, run);
  add_model(program, run);
  add_key(program, run);
  add_ledger(program, run);
  add_payout(program, run);
  add_demo(program, run);
  add_bench(program, run);
  add_sim(program, run);

  try {
    std::vector<std::string> words = arguments_of(argc, argv);
    std::reverse(words.begin(), words.end());  // as CLI11 takes them
    program.parse(std::move(words));
  } catch (const CLI::ParseError& stop) {  // also thrown for --help and --version
    return program.exit(stop) == 0 ? kSuccess : kUsage;
  }
  const bool serves = program.got_subcommand("node") || program.got_subcommand("coordinator") ||
                      program.got_subcommand("discovery") || program.got_subcommand("payout");
  if (std::getenv("LOG_LEVEL") == nullptr && !serves) {
    set_log_level(LogLevel::error);  // what matters comes back as an error of the verb
  }
  return run();
}

}  // namespace farmesh::cli
