add_executable(bench_hop hop_bench.cpp)
target_link_libraries(bench_hop PRIVATE farmesh_net)
