# libtorch as the target farmesh_libtorch, and FARMESH_TORCH_CUDA: whether it computes on GPUs.
#
# Found as CMake finds packages, or where FARMESH_TORCH_ROOT says: a libtorch folder, or the folder
# of Python's package (python3 -c "import torch; print(torch.__path__[0])"). The latter is the way
# for a pip torch with CUDA on a machine without the CUDA toolkit: its own CMake files ask for one,
# while the engine needs no compiler of CUDA's, only the runtime's headers and library, which come
# with that torch as Python packages beside it.
set(FARMESH_TORCH_ROOT "" CACHE PATH "Folder of a libtorch, instead of the one that CMake finds")

add_library(farmesh_libtorch INTERFACE)
set(FARMESH_TORCH_CUDA OFF)

if(NOT FARMESH_TORCH_ROOT)
  find_package(Torch REQUIRED)
  if(TORCH_CXX_FLAGS MATCHES "_GLIBCXX_USE_CXX11_ABI=0")
    message(FATAL_ERROR "this libtorch has the old C++ ABI and cannot share strings with FarMesh: "
      "use a cxx11-ABI build (Debian's, or PyTorch 2.6 and later)")
  endif()
  target_include_directories(farmesh_libtorch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(farmesh_libtorch INTERFACE ${TORCH_LIBRARIES})
  if(TARGET torch_cuda)
    find_package(CUDAToolkit REQUIRED)
    target_link_libraries(farmesh_libtorch INTERFACE CUDA::cudart)
    set(FARMESH_TORCH_CUDA ON)
  endif()
else()
  set(torch_libraries torch torch_cpu c10)
  if(EXISTS ${FARMESH_TORCH_ROOT}/lib/libtorch_cuda.so)
    list(APPEND torch_libraries torch_cuda c10_cuda)
    set(FARMESH_TORCH_CUDA ON)
  endif()
  foreach(library ${torch_libraries})
    set(file ${FARMESH_TORCH_ROOT}/lib/lib${library}.so)
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "FARMESH_TORCH_ROOT is no libtorch: there is no ${file}")
    endif()
    target_link_libraries(farmesh_libtorch INTERFACE ${file})
  endforeach()
  target_include_directories(farmesh_libtorch SYSTEM INTERFACE ${FARMESH_TORCH_ROOT}/include
    ${FARMESH_TORCH_ROOT}/include/torch/csrc/api/include)
  if(FARMESH_TORCH_CUDA)
    file(GLOB beside ${FARMESH_TORCH_ROOT}/../nvidia/cu[0-9]* ${FARMESH_TORCH_ROOT}/../nvidia/cuda_runtime)
    find_path(FARMESH_CUDART_INCLUDE cuda_runtime_api.h HINTS ${beside} /usr/local/cuda
      PATH_SUFFIXES include REQUIRED)
    find_path(FARMESH_CUDA_CRT crt/host_config.h HINTS ${FARMESH_CUDART_INCLUDE} ${beside}
      ${FARMESH_TORCH_ROOT}/../nvidia/cuda_nvcc PATH_SUFFIXES include)
    if(NOT FARMESH_CUDA_CRT)
      message(FATAL_ERROR "${FARMESH_CUDART_INCLUDE}/cuda_runtime.h includes crt/host_config.h, which "
        "is nowhere: pip install nvidia-cuda-crt (CUDA 13) or nvidia-cuda-nvcc-cu12 (CUDA 12), of "
        "that torch's version of CUDA, or have the CUDA toolkit")
    endif()
    file(GLOB versions ${FARMESH_TORCH_ROOT}/../nvidia/*/lib/libcudart.so.*
      ${FARMESH_TORCH_ROOT}/lib/libcudart*.so.*)
    list(TRANSFORM versions REPLACE ".*/" "" OUTPUT_VARIABLE names)
    find_library(FARMESH_CUDART NAMES cudart ${names} HINTS ${beside} /usr/local/cuda
      ${FARMESH_TORCH_ROOT} PATH_SUFFIXES lib lib64 REQUIRED)
    target_include_directories(farmesh_libtorch SYSTEM INTERFACE ${FARMESH_CUDART_INCLUDE}
      ${FARMESH_CUDA_CRT})
    target_link_libraries(farmesh_libtorch INTERFACE ${FARMESH_CUDART})
  endif()
endif()
