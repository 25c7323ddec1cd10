// Which machine code the kernels run: chosen once per engine from the CPU's features.
//
// All of them give the same bits (simd_*.hpp), so the choice is about speed only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace farmesh::kernels {

enum class Isa : std::uint8_t { portable, avx2, avx512, avx512vnni, avx512bf16 };
inline constexpr Isa kIsas[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512vnni,
                                Isa::avx512bf16};

std::string_view name(Isa isa) noexcept;
std::optional<Isa> isa_from_name(std::string_view name) noexcept;

/// Compiled in, and this CPU and operating system can run it.
bool usable(Isa isa) noexcept;
Isa best_isa() noexcept;

}  // namespace farmesh::kernels
