#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx2.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable kAvx2Table;
constinit const KernelTable kAvx2Table = make_table(Isa::avx2);

}  // namespace farmesh::kernels
