# The Debian package of the program and the library, which `cpack -G DEB` makes (./run package).
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME farmesh)
set(CPACK_PACKAGE_CONTACT "The FarMesh maintainers <maintainers@farlabs.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Ours are in no package yet.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${FARMESH_PRODUCT_DIR})
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
include(CPack)
