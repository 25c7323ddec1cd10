#include "kernels/isa.hpp"

namespace farmesh::kernels {

#ifdef FARMESH_KERNELS_X86
/// Of kernels_avx512bf16.cpp, for CPUs that have the instruction.
bool bf16_dots_add_in_order() noexcept;
#endif

std::string_view name(Isa isa) noexcept {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512vnni: return "avx512vnni";
    case Isa::avx512bf16: return "avx512bf16";
  }
  return "?";
}

std::optional<Isa> isa_from_name(std::string_view text) noexcept {
  for (const Isa isa : kIsas) {
    if (name(isa) == text) return isa;
  }
  return std::nullopt;
}

bool usable(Isa isa) noexcept {
  if (isa == Isa::portable) return true;
#ifdef FARMESH_KERNELS_X86
  // The builtin asks the operating system too (XCR0), not only the CPU.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  if (isa == Isa::avx512) return avx512;
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::avx512vnni) return vnni;
  static const bool bf16 = [&] {
    return vnni && __builtin_cpu_supports("avx512bf16") && bf16_dots_add_in_order();
  }();
  return bf16;
#else
  return false;
#endif
}

Isa best_isa() noexcept {
  for (const Isa isa : {Isa::avx512bf16, Isa::avx512vnni, Isa::avx512, Isa::avx2}) {
    if (usable(isa)) return isa;
  }
  return Isa::portable;
}

}  // namespace farmesh::kernels
