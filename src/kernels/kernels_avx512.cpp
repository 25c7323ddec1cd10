#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx512.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable kAvx512Table;
constinit const KernelTable kAvx512Table = make_table(Isa::avx512);

}  // namespace farmesh::kernels
