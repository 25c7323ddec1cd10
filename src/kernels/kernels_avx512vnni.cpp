#define FARMESH_SIMD_HEADER "kernels/bodies/simd_avx512.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable kAvx512VnniTable;
constinit const KernelTable kAvx512VnniTable = make_table(Isa::avx512vnni);

}  // namespace farmesh::kernels
