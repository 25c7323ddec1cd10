# Also built with FARMESH_ENGINE_ONLY: they need the engine and libtorch, nothing else.
add_executable(bench_engine ${CMAKE_CURRENT_LIST_DIR}/engine_bench.cpp
  ${PROJECT_SOURCE_DIR}/src/model/engine_load.cpp ${PROJECT_SOURCE_DIR}/src/model/machine_probe.cpp
  ${PROJECT_SOURCE_DIR}/src/model/tensor_specs.cpp)
add_executable(check_engine ${CMAKE_CURRENT_LIST_DIR}/engine_check.cpp
  ${PROJECT_SOURCE_DIR}/tests/golden/plain_decoder.cpp
  ${PROJECT_SOURCE_DIR}/src/model/tensor_specs.cpp)
foreach(program bench_engine check_engine)
  target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${program} PRIVATE farmesh_kernels ${CMAKE_DL_LIBS})
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${FARMESH_PRODUCT_DIR})
  if(TARGET farmesh_torch)
    add_dependencies(${program} farmesh_torch)
  endif()
endforeach()
