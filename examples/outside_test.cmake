# Installs the build into a fresh prefix, then configures, builds and runs examples/outside
# against it, once through CMake's package and once through pkg-config.
cmake_minimum_required(VERSION 3.25)

set(work ${build}/install-test)
set(prefix ${work}/prefix)
set(model ${work}/model)
file(REMOVE_RECURSE ${work})
unset(ENV{FARMESH_TORCH_LIBRARY})  # the installed engine is found beside the installed library

# must(COMMAND…): runs it, stops the test when it fails, leaves its output in `output`
macro(must)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "failed: ${ARGN}\n${output}${errors}")
  endif()
endmacro()

# must_generate(COMMAND…): a program of examples/outside that makes its sixteen tokens
macro(must_generate)
  must(${ARGN} ${model} "Hello")
  if(NOT errors MATCHES "16 tokens")
    message(FATAL_ERROR "did not generate: ${ARGN}\n${output}${errors}")
  endif()
endmacro()

must(${CMAKE_COMMAND} --install ${build} --prefix ${prefix})
must(${prefix}/bin/farmesh model synth --shape tiny --out ${model})

must(${CMAKE_COMMAND} -S ${source} -B ${work}/outside -G Ninja
  -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_CXX_COMPILER=${compiler})
must(${CMAKE_COMMAND} --build ${work}/outside)
must_generate(${work}/outside/outside)

execute_process(COMMAND ${work}/outside/outside ${work}/absent "Hello"
  ERROR_VARIABLE errors RESULT_VARIABLE status)
if(NOT status EQUAL 1 OR NOT errors MATCHES "^model_not_found: ")
  message(FATAL_ERROR "a folder that is absent gave ${status}: ${errors}")
endif()

file(GLOB_RECURSE pc ${prefix}/*/farmesh.pc)
cmake_path(GET pc PARENT_PATH pc_dir)
must(${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc_dir} pkg-config --cflags --libs farmesh)
separate_arguments(flags UNIX_COMMAND "${output}")
must(${compiler} ${source}/main.cpp ${flags} -o ${work}/by_pkg_config)
cmake_path(GET pc_dir PARENT_PATH lib_dir)
must_generate(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${lib_dir} ${work}/by_pkg_config)

# What it exports is the public interface, under the namespace of its soname: MAJOR.MINOR.
file(REAL_PATH ${lib_dir}/libfarmesh.so library)
cmake_path(GET library FILENAME abi)
string(REGEX MATCH "[0-9]+[.][0-9]+" abi ${abi})
string(REPLACE "." "_" abi ${abi})
must(${nm} -DC --defined-only ${library})
string(STRIP "${output}" exported)
string(REPLACE ";" "" exported "${exported}")
string(REPLACE "\n" ";" exported "${exported}")
list(LENGTH exported count)
list(FILTER exported EXCLUDE REGEX "^[0-9a-f]+ [TVW] farmesh::v${abi}::")
if(exported OR count LESS 100)
  message(FATAL_ERROR "libfarmesh.so exports what is not of farmesh::v${abi}: ${exported}")
endif()
