# Also built with FARMESH_ENGINE_ONLY: it needs the engine and libtorch, nothing else.
add_executable(bench_engine ${CMAKE_CURRENT_LIST_DIR}/engine_bench.cpp
  ${PROJECT_SOURCE_DIR}/src/model/engine_load.cpp ${PROJECT_SOURCE_DIR}/src/model/machine_probe.cpp
  ${PROJECT_SOURCE_DIR}/src/model/tensor_specs.cpp)
target_link_libraries(bench_engine PRIVATE farmesh_kernels ${CMAKE_DL_LIBS})
set_target_properties(bench_engine PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${FARMESH_PRODUCT_DIR})
if(TARGET farmesh_torch)
  add_dependencies(bench_engine farmesh_torch)
endif()
