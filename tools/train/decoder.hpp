// A Llama decoder that can be trained: takes token ids, gives logits. Names and shapes of the
// parameters are those of a Hugging Face checkpoint (LlamaForCausalLM, tied embeddings).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

namespace farmesh::train {

struct DecoderShape {
  std::int64_t hidden = 192;
  std::int64_t feed_forward = 416;
  std::int64_t layers = 6;
  std::int64_t heads = 6;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 32;
  std::int64_t vocabulary = 2048;
  std::int64_t context = 512;
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
};

/// One owner; the tensors are shared with whoever holds parameters().
class Decoder {
 public:
  /// Random weights, drawn from torch's default generator.
  explicit Decoder(const DecoderShape& shape);

  /// ids, documents: [rows, length] int64. A position sees the earlier positions of its own
  /// document. Returns logits [rows, length, vocabulary].
  torch::Tensor logits(const torch::Tensor& ids, const torch::Tensor& documents) const;

  const DecoderShape& shape() const noexcept { return shape_; }
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const;
  std::int64_t parameter_count() const;

 private:
  struct Layer {
    torch::Tensor input_norm, q, k, v, o, post_norm, gate, up, down;
  };

  torch::Tensor attention(const Layer& layer, const torch::Tensor& x,
                          const torch::Tensor& mask) const;
  torch::Tensor rotated(const torch::Tensor& x) const;

  DecoderShape shape_;
  torch::Tensor embedding_;  // [vocabulary, hidden], also the head
  torch::Tensor final_norm_;
  std::vector<Layer> layers_;
  torch::Tensor cos_, sin_;  // [context, head_dim / 2]
};

}  // namespace farmesh::train
