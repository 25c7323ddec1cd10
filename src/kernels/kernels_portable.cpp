#define FARMESH_SIMD_HEADER "kernels/bodies/simd_portable.hpp"
#include "kernels/bodies/table.hpp"

namespace farmesh::kernels {

extern const KernelTable kPortableTable;
constinit const KernelTable kPortableTable = make_table(Isa::portable);

}  // namespace farmesh::kernels
