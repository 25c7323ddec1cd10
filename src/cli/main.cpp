#include "cli/verbs.hpp"

int main(int argc, char** argv) { return farmesh::cli::run_program(argc, argv); }
