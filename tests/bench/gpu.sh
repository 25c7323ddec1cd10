#!/bin/sh
# The engine on a GPU: is it right, and how fast? Wherever there is a GPU and a libtorch with CUDA.
#
# Builds kernels and engine alone against the libtorch found, holds what the GPU computes against a
# plain forward pass in double on the CPU, then prints decode, batch and prefill for each precision
# beside what the GPU's memory and products gave in the same run. Nothing is installed; what is built
# lies in BUILD. Ends with 77 where there is no GPU, and says so.
#
# usage: tests/bench/gpu.sh [--any-device]
#   FARMESH_TORCH_ROOT  a libtorch, or Python's package; default: that of python3's torch, else what
#                       CMake finds
#   BUILD               folder to build in, default build/gpu
#   DEVICE              default cuda:0
#   SHAPES, PRECISIONS  default "1.1b 7b", "bf16 f16 int8 int4"
#   --any-device        builds and checks on the CPU where there is no GPU: shows that this libtorch
#                       builds and what it computes there, and no figure of a GPU
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$root/build/gpu}
device=${DEVICE:-cuda:0}
any=${1:-}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }

if ! has_gpu; then
  echo "no GPU here: nvidia-smi is absent or lists none"
  [ "$any" = --any-device ] || exit 77
  device=cpu
fi

torch=${FARMESH_TORCH_ROOT:-$(python3 -c 'import torch; print(torch.__path__[0])' 2>/dev/null || true)}
set -- -S "$root" -B "$build" -DFARMESH_ENGINE_ONLY=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
[ -z "$torch" ] || set -- "$@" "-DFARMESH_TORCH_ROOT=$torch"
! command -v ninja >/dev/null 2>&1 || set -- -G Ninja "$@"
cmake "$@"
cmake --build "$build"

echo "libtorch: ${torch:-as CMake finds it}"
[ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$build/bin/check_engine" "$device"
[ "$device" != cpu ] || exit 0

for shape in ${SHAPES:-1.1b 7b}; do
  for precision in ${PRECISIONS:-bf16 f16 int8 int4}; do
    "$build/bin/bench_engine" --device "$device" --shape "$shape" --precision "$precision" \
      --sessions 1,8,32 --prompts 512
    "$build/bin/bench_engine" --device "$device" --shape "$shape" --precision "$precision" \
      --sessions 1,8 --prompts 512 --context 4096 --rounds 3
  done
done
