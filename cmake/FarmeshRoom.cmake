# How the parts of the house are declared: farmesh_room, farmesh_test, farmesh_fuzz.
#
# One room is one static library; its DEPENDS are the arrows of docs/architecture.md, so that an
# include from a room that is not below does not link.

find_package(Threads REQUIRED)

add_library(farmesh_options INTERFACE)
target_compile_features(farmesh_options INTERFACE cxx_std_20)
target_include_directories(farmesh_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
target_compile_options(farmesh_options INTERFACE
  -Wall -Wextra -Wpedantic -Wno-missing-field-initializers)
target_link_libraries(farmesh_options INTERFACE Threads::Threads)
if(FARMESH_SANITIZE)
  # A finding ends the process, so that the test which caused it fails.
  target_compile_options(farmesh_options INTERFACE
    -fsanitize=${FARMESH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(farmesh_options INTERFACE -fsanitize=${FARMESH_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Instrumented code confuses this warning, in the standard library's own headers too.
    target_compile_options(farmesh_options INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(FARMESH_CCACHE ccache)
if(FARMESH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What ccache needs to be told before it caches a compilation with a precompiled header.
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
#
# A room is named after its folder, becomes part of libfarmesh.so, and its headers form a header
# set: the target all_verify_interface_header_sets compiles each of them alone. Under another name
# it is a library beside the room, such as a stand-in for tests.
function(farmesh_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPENDS;PUBLIC;PRIVATE" ${ARGN})
  add_library(farmesh_${name} STATIC ${ROOM_SOURCES})
  add_library(farmesh::${name} ALIAS farmesh_${name})
  list(TRANSFORM ROOM_DEPENDS PREPEND farmesh::)  # a name with :: must exist
  target_link_libraries(farmesh_${name}
    PUBLIC farmesh_options ${ROOM_DEPENDS} ${ROOM_PUBLIC}
    PRIVATE ${ROOM_PRIVATE})
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME folder)
  if(NOT folder STREQUAL name)
    return()
  endif()
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.hpp)
  target_sources(farmesh_${name} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${headers})
  set_target_properties(farmesh_${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  set_property(GLOBAL APPEND PROPERTY FARMESH_ROOMS farmesh_${name})
endfunction()

# farmesh_test(NAME SOURCES a_test.cpp … LINKS room … [LABELS label …] [ENVIRONMENT A=b …]
#              [TIMEOUT seconds] [TORCH])
#
# One doctest executable `test_NAME` and one ctest entry NAME with the label NAME. Further LABELS:
# `chaos` keeps it out of ./run test; `integration` runs it after the quick ones. TORCH: it loads
# the compute engine, so builds without libfarmesh_torch leave it out.
function(farmesh_test name)
  cmake_parse_arguments(TEST "TORCH" "TIMEOUT" "SOURCES;LINKS;LABELS;ENVIRONMENT" ${ARGN})
  if(TEST_TORCH AND NOT FARMESH_TORCH)
    return()
  endif()
  add_executable(test_${name} ${PROJECT_SOURCE_DIR}/tests/support/main.cpp ${TEST_SOURCES})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(test_${name} PRIVATE ${TEST_LINKS} doctest::doctest)
  target_compile_definitions(test_${name} PRIVATE
    FARMESH_SOURCE_DIR="${PROJECT_SOURCE_DIR}" FARMESH_BINARY_DIR="${PROJECT_BINARY_DIR}")
  # Half of a build from nothing is tests' assertions: these two take a third off their compilation.
  target_compile_definitions(test_${name} PRIVATE DOCTEST_CONFIG_SUPER_FAST_ASSERTS)
  target_compile_options(test_${name} PRIVATE -O1)
  # Where the libraries lie that are opened at run time.
  set_target_properties(test_${name} PROPERTIES BUILD_RPATH ${FARMESH_PRODUCT_DIR})
  add_test(NAME ${name} COMMAND test_${name})
  if(NOT TEST_TORCH)
    set(no_engine NO_ENGINE)
  endif()
  farmesh_describe_test(${name} LABELS ${name} ${TEST_LABELS}
    ENVIRONMENT ${TEST_ENVIRONMENT} TIMEOUT ${TEST_TIMEOUT} ${no_engine})
endfunction()

# farmesh_describe_test(NAME LABELS label … [ENVIRONMENT A=b …] [TIMEOUT seconds] [NO_ENGINE]): the
# properties of a ctest entry, however it was added. The tests find this build's engine and program.
# NO_ENGINE: neither the test nor what it starts opens libfarmesh_torch.
function(farmesh_describe_test name)
  cmake_parse_arguments(TEST "NO_ENGINE" "TIMEOUT" "LABELS;ENVIRONMENT" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 300)
  endif()
  if(FARMESH_SANITIZE)
    math(EXPR TEST_TIMEOUT "${TEST_TIMEOUT} * 4")
    # An intercepted dlopen() does not look where the executable says.
    list(APPEND TEST_ENVIRONMENT "LD_LIBRARY_PATH=${FARMESH_PRODUCT_DIR}")
    set(leaks "suppressions=${PROJECT_SOURCE_DIR}/tools/lsan.supp")
    if(NOT TEST_NO_ENGINE)
      # GCC 12's LeakSanitizer crashes in the thread-locals of libtorch's libraries. Without
      # thread-locals it takes for lost what OpenSSL keeps for each thread.
      set(leaks "use_tls=0:suppressions=${PROJECT_SOURCE_DIR}/tools/lsan_engine.supp")
    endif()
    # Programs whose whole error output is read by a test say nothing of what was suppressed.
    list(APPEND TEST_ENVIRONMENT "LSAN_OPTIONS=print_suppressions=0:${leaks}")
  endif()
  # ctest starts tests by falling cost: the quick ones first, so that a slip shows at once.
  set(cost 100)
  foreach(slower fuzz golden sim integration chaos)
    if(slower IN_LIST TEST_LABELS)
      set(cost 10)
    endif()
  endforeach()
  set_tests_properties(${name} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT ${TEST_TIMEOUT} COST ${cost}
    ENVIRONMENT "FARMESH_TORCH_LIBRARY=${FARMESH_PRODUCT_DIR}/libfarmesh_torch.so;${TEST_ENVIRONMENT}")
endfunction()

# farmesh_fuzz(NAME SOURCES fuzz.cpp LINKS room …): with clang a libFuzzer target `fuzz_NAME`;
# otherwise the same entry point linked with a driver that replays the corpus, run as a test.
function(farmesh_fuzz name)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(fuzz_${name} ${FUZZ_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(fuzz_${name} PRIVATE ${FUZZ_LINKS})
  set_target_properties(fuzz_${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzzers
    BUILD_RPATH ${FARMESH_PRODUCT_DIR})
  add_dependencies(fuzzers fuzz_${name})
  if(FARMESH_FUZZ)
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cpp)
    add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    farmesh_describe_test(fuzz_${name} LABELS fuzz TIMEOUT 120 NO_ENGINE)
  endif()
endfunction()
