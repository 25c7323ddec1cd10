// Gathers the bodies into one KernelTable.
#pragma once

#include "kernels/bodies/attention.hpp"
#include "kernels/bodies/elementwise.hpp"
#include "kernels/bodies/math.hpp"
#include "kernels/bodies/product.hpp"
#include "kernels/bodies/quant_product.hpp"
#include "kernels/bodies/quantise.hpp"

namespace farmesh::kernels {
namespace {

constexpr KernelTable make_table(Isa isa) {
  KernelTable table;
  table.isa = isa;
  table.product_rows = kTileRows;
  table.attention_rows = kTileRows;
  table.pack_rows_f32 = &pack_rows_f32;
  table.pack_rows_bf16 = &pack_rows_bf16;
  table.bf16_pair_words = Bf16Panel::kInputs;
  table.product_f32 = &product<ExactKernel<F32Panel>>;
  table.product_bf16 = &product<ExactKernel<Bf16Panel>>;
  table.quant_rows = kQuantRows;
  table.quantise_rows = &quantise_rows;
  table.product_int8 = &product<QuantKernel<Int8Panel>>;
  table.product_int4 = &product<QuantKernel<Int4Panel>>;
  table.quantise_int8 = &quantise_int8;
  table.quantise_int4 = &quantise_int4;
  table.store_int8 = &store_int8;
  table.attention_f32 = &attention<KvFormat::f32>;
  table.attention_bf16 = &attention<KvFormat::bf16>;
  table.attention_int8 = &attention<KvFormat::int8>;
  table.rms_norm = &rms_norm;
  table.layer_norm = &layer_norm;
  table.rotate = &rotate;
  table.activate[static_cast<int>(Act::silu)] = &activate<Silu>;
  table.activate[static_cast<int>(Act::gelu)] = &activate<Gelu>;
  table.activate[static_cast<int>(Act::gelu_tanh)] = &activate<GeluTanh>;
  table.activate[static_cast<int>(Act::relu)] = &activate<Relu>;
  table.activate_gated[static_cast<int>(Act::silu)] = &activate_gated<Silu>;
  table.activate_gated[static_cast<int>(Act::gelu)] = &activate_gated<Gelu>;
  table.activate_gated[static_cast<int>(Act::gelu_tanh)] = &activate_gated<GeluTanh>;
  table.activate_gated[static_cast<int>(Act::relu)] = &activate_gated<Relu>;
  table.add = &add_to;
  table.add_round_bf16 = &add_round_bf16;
  table.widen_bf16 = &widen_bf16;
  table.narrow_bf16 = &narrow_bf16;
  return table;
}

}  // namespace
}  // namespace farmesh::kernels
