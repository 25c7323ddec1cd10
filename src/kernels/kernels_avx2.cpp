#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx2.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable k_avx2_table;
constinit const KernelTable k_avx2_table = make_table(Isa::avx2);

}  // namespace farmesh::kernels
