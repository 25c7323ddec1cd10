#include "kernels/kernel_table.hpp"

namespace farmesh::kernels {

extern const KernelTable k_portable_table;
#ifdef FARMESH_KERNELS_X86
extern const KernelTable k_avx2_table;
extern const KernelTable k_avx512_table;
#endif

const KernelTable& kernel_table(Isa isa) noexcept {
  switch (isa) {
#ifdef FARMESH_KERNELS_X86
    case Isa::avx512: return k_avx512_table;
    case Isa::avx2: return k_avx2_table;
#else
    case Isa::avx512:
    case Isa::avx2:
#endif
    case Isa::portable: break;
  }
  return k_portable_table;
}

}  // namespace farmesh::kernels
