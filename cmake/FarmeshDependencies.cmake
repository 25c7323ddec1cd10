# Everything FarMesh links besides libtorch. docs/dependencies.md says why each was chosen.

find_package(OpenSSL 3.0 REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

find_path(FARMESH_ASIO_INCLUDE asio.hpp REQUIRED)
add_library(farmesh_asio INTERFACE)
target_include_directories(farmesh_asio SYSTEM INTERFACE $<BUILD_INTERFACE:${FARMESH_ASIO_INCLUDE}>)
target_compile_definitions(farmesh_asio INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED
  # Asio 1.22 finds it only where a standard header came first, and takes memory from one allocator
  # and gives it to another when some files have it and some have not.
  ASIO_HAS_STD_ALIGNED_ALLOC=1
  # Asio 1.22 knows the coroutines of older Clangs only.
  $<$<CXX_COMPILER_ID:Clang>:ASIO_HAS_CO_AWAIT=1 ASIO_HAS_STD_COROUTINE=1>)
target_link_libraries(farmesh_asio INTERFACE Threads::Threads)

# Beast comes with Boost.Asio, a namespace apart from the standalone one (docs/adr/0001-two-asios.md).
find_package(Boost 1.74 REQUIRED)
pkg_check_modules(PROMETHEUS REQUIRED IMPORTED_TARGET prometheus-cpp-core)
pkg_check_modules(LIBTORRENT REQUIRED IMPORTED_TARGET libtorrent-rasterbar)
find_package(SQLite3 REQUIRED)
pkg_check_modules(LIBPQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis)
pkg_check_modules(SECP256K1 REQUIRED IMPORTED_TARGET libsecp256k1)
pkg_check_modules(CRYPTOPP REQUIRED IMPORTED_TARGET libcrypto++)

find_path(FARMESH_FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h REQUIRED)
find_program(FARMESH_FLATC flatc REQUIRED)

if(FARMESH_TESTS)
  find_package(doctest REQUIRED)
endif()
