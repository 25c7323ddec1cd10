# Copies libfarmesh.so and libfarmesh_sentencepiece.so from `bin` to `out`, with every library that they
# link but the platform's own, and lets them find each other there.
cmake_minimum_required(VERSION 3.25)

file(GLOB own ${bin}/libfarmesh.so.?.? ${bin}/libfarmesh_sentencepiece.so)
# What PEP 600 lets a wheel expect of every machine whose glibc is new enough.
file(GET_RUNTIME_DEPENDENCIES LIBRARIES ${own} RESOLVED_DEPENDENCIES_VAR others
  POST_EXCLUDE_REGEXES "/(ld-linux[^/]*|libc|libm|libdl|librt|libpthread|libresolv|libstdc\\+\\+|libgcc_s)\\.so[^/]*$")

find_program(patchelf patchelf REQUIRED)
find_program(strip strip REQUIRED)
foreach(library ${own} ${others})
  cmake_path(GET library FILENAME name)
  file(REAL_PATH ${library} file)
  file(COPY_FILE ${file} ${out}/${name})
  execute_process(COMMAND ${strip} --strip-unneeded ${out}/${name} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${patchelf} --set-rpath "$ORIGIN" ${out}/${name} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
