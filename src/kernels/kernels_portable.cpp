#define FARMESH_SIMD_HEADER "kernels/bodies/simd_portable.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable k_portable_table;
constinit const KernelTable k_portable_table = make_table(Isa::portable);

}  // namespace farmesh::kernels
