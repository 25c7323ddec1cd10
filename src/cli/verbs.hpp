// The verbs of the program. Each adds its subcommand with flags and help, and sets `run` to the
// work when the subcommand is the one that was asked for.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace farmesh::cli {

using Run = std::function<int()>;  // returns the exit code

void add_node(CLI::App& program, Run& run);
void add_coordinator(CLI::App& program, Run& run);
void add_discovery(CLI::App& program, Run& run);
void add_generate(CLI::App& program, Run& run);
void add_chat(CLI::App& program, Run& run);
void add_model(CLI::App& program, Run& run);
void add_key(CLI::App& program, Run& run);
void add_ledger(CLI::App& program, Run& run);
void add_payout(CLI::App& program, Run& run);
void add_demo(CLI::App& program, Run& run);
void add_bench(CLI::App& program, Run& run);
void add_sim(CLI::App& program, Run& run);

/// The program: parses, runs one verb, returns its exit code.
int run_program(int argc, char** argv);

}  // namespace farmesh::cli
