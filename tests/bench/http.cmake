add_executable(bench_http http_bench.cpp)
target_link_libraries(bench_http PRIVATE farmesh_http Boost::headers)
