#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {

extern const KernelTable kPortableTable;
#ifdef FARMESH_KERNELS_X86
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
extern const KernelTable kAvx512VnniTable;
extern const KernelTable kAvx512Bf16Table;
#endif

const KernelTable& kernel_table(Isa isa) noexcept {
  switch (isa) {
#ifdef FARMESH_KERNELS_X86
    case Isa::avx512bf16: return kAvx512Bf16Table;
    case Isa::avx512vnni: return kAvx512VnniTable;
    case Isa::avx512: return kAvx512Table;
    case Isa::avx2: return kAvx2Table;
#else
    case Isa::avx512bf16:
    case Isa::avx512vnni:
    case Isa::avx512:
    case Isa::avx2:
#endif
    case Isa::portable: break;
  }
  return kPortableTable;
}

}  // namespace farmesh::kernels
