#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx512.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable k_avx512_table;
constinit const KernelTable k_avx512_table = make_table(Isa::avx512);

}  // namespace farmesh::kernels
