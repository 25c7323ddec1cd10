# libfarmesh.so, the one library an application links, and the install tree around it.
include(CMakePackageConfigHelpers)

# All rooms but the program's own; kernels and engine are in libfarmesh_torch.so.
get_property(rooms GLOBAL PROPERTY FARMESH_ROOMS)
list(REMOVE_ITEM rooms farmesh_cli)

file(GLOB public_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/farmesh/*.hpp)
set(symbols ${PROJECT_SOURCE_DIR}/cmake/farmesh.map)

add_library(farmesh_shared SHARED)
add_library(farmesh::farmesh ALIAS farmesh_shared)
set_target_properties(farmesh_shared PROPERTIES
  OUTPUT_NAME farmesh EXPORT_NAME farmesh LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LIBRARY_OUTPUT_DIRECTORY ${FARMESH_PRODUCT_DIR}
  LINK_DEPENDS ${symbols}
  VERIFY_INTERFACE_HEADER_SETS ON)
target_compile_features(farmesh_shared INTERFACE cxx_std_20)
target_sources(farmesh_shared PUBLIC
  FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${public_headers})
# Nothing in the library refers to the rooms it is made of, so it takes their objects whole; the
# archives bring what the rooms link.
foreach(room ${rooms})
  target_sources(farmesh_shared PRIVATE $<TARGET_OBJECTS:${room}>)
endforeach()
target_link_libraries(farmesh_shared PRIVATE ${rooms})
target_link_options(farmesh_shared PRIVATE LINKER:--version-script=${symbols})

install(TARGETS farmesh_shared EXPORT farmesh-targets FILE_SET HEADERS)
foreach(target farmesh farmesh_torch farmesh_sentencepiece)  # the program, and what it opens
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
    install(TARGETS ${target})
  endif()
endforeach()
if(TARGET farmesh)
  install(FILES $<TARGET_FILE_DIR:farmesh>/far-node DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/farmesh)
install(EXPORT farmesh-targets NAMESPACE farmesh:: DESTINATION ${package_dir})
configure_package_config_file(cmake/farmesh-config.cmake.in farmesh-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(farmesh-config-version.cmake COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH pc_to_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/farmesh.pc.in farmesh.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/farmesh-config.cmake
  ${PROJECT_BINARY_DIR}/farmesh-config-version.cmake DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/farmesh.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY models/demo DESTINATION ${CMAKE_INSTALL_DATADIR}/farmesh/models OPTIONAL)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
