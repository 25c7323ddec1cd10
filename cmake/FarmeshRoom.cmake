# One room of the house is one static library; its DEPENDS are the arrows of
# docs/architecture.md, so an include from a room that is not below does not link.

find_package(Threads REQUIRED)

add_library(farmesh_options INTERFACE)
target_compile_features(farmesh_options INTERFACE cxx_std_20)
target_include_directories(farmesh_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
target_compile_options(farmesh_options INTERFACE -Wall -Wextra -Wpedantic -Wno-missing-field-initializers)
target_link_libraries(farmesh_options INTERFACE Threads::Threads)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(farmesh_options INTERFACE -fcoroutines -fdiagnostics-color=auto)
endif()
if(FARMESH_SANITIZE)
  target_compile_options(farmesh_options INTERFACE -fsanitize=${FARMESH_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(farmesh_options INTERFACE -fsanitize=${FARMESH_SANITIZE})
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(FARMESH_CCACHE ccache)
if(FARMESH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${FARMESH_CCACHE})
endif()
find_program(FARMESH_MOLD mold)
if(FARMESH_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Two jobs that include torch at once would starve a two-core machine of memory bandwidth.
set_property(GLOBAL PROPERTY JOB_POOLS torch=1)

# farmesh_room(NAME SOURCES a.cpp … [DEPENDS room …] [PUBLIC lib …] [PRIVATE lib …])
function(farmesh_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPENDS;PUBLIC;PRIVATE" ${ARGN})
  add_library(farmesh_${name} STATIC ${ROOM_SOURCES})
  add_library(farmesh::${name} ALIAS farmesh_${name})
  list(TRANSFORM ROOM_DEPENDS PREPEND farmesh_)
  target_link_libraries(farmesh_${name}
    PUBLIC farmesh_options ${ROOM_DEPENDS} ${ROOM_PUBLIC}
    PRIVATE ${ROOM_PRIVATE})
  set_property(GLOBAL APPEND PROPERTY FARMESH_ROOMS farmesh_${name})
endfunction()

# farmesh_test(NAME SOURCES a_test.cpp … LINKS room …): one doctest executable `test_NAME`,
# one ctest entry per test case, labelled NAME.
function(farmesh_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(test_${name} ${PROJECT_SOURCE_DIR}/tests/support/main.cpp ${TEST_SOURCES})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(test_${name} PRIVATE ${TEST_LINKS} doctest::doctest)
  target_compile_definitions(test_${name} PRIVATE
    FARMESH_SOURCE_DIR="${PROJECT_SOURCE_DIR}" FARMESH_BINARY_DIR="${PROJECT_BINARY_DIR}")
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS ${name} TIMEOUT 300)
endfunction()

# farmesh_fuzz(NAME SOURCES fuzz.cpp LINKS room …): with clang a libFuzzer target `fuzz_NAME`;
# otherwise the same entry point linked with a driver that replays the corpus, run as a test.
function(farmesh_fuzz name)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(fuzz_${name} ${FUZZ_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(fuzz_${name} PRIVATE ${FUZZ_LINKS})
  if(FARMESH_FUZZ)
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cpp)
    add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(fuzz_${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
endfunction()
