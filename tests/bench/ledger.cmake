add_executable(bench_ledger ledger_bench.cpp)
target_include_directories(bench_ledger PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(bench_ledger PRIVATE farmesh_ledger)
