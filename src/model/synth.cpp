#include "model/synth.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/float_formats.hpp"
#include "model/model_config.hpp"

namespace farmesh::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::size_t kChunkElements = 1 << 18;
constexpr TokenId kUnknown = 0, kBegin = 1, kEnd = 2, kFirstByte = 3;

struct Shape {
  const char* name;
  std::uint32_t hidden, layers, heads, kv_heads, intermediate, vocab, context;
};
constexpr std::array<Shape, 5> kShapes{{{"tiny", 32, 2, 4, 2, 64, 320, 256},
                                        {"deep", 32, 32, 4, 2, 64, 320, 1024},
                                        {"160m", 768, 12, 12, 12, 3072, 32000, 4096},
                                        {"1.1b", 2048, 22, 32, 4, 5632, 32000, 4096},
                                        {"7b", 4096, 32, 32, 32, 11008, 32000, 4096}}};

const char* torch_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
}
const char* file_name(DType dtype) {
  return dtype == DType::f32 ? "F32" : dtype == DType::bf16 ? "BF16" : "F16";
}

ordered_json config_json(const Shape& shape, DType dtype) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", shape.hidden},
          {"intermediate_size", shape.intermediate},
          {"num_hidden_layers", shape.layers},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.kv_heads},
          {"vocab_size", shape.vocab},
          {"max_position_embeddings", shape.context},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false},
          {"bos_token_id", kBegin},
          {"eos_token_id", kEnd},
          {"torch_dtype", torch_name(dtype)}};
}

std::string utf8(std::uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

/// GPT-2's printable stand-ins for bytes: themselves where printable, else from U+0100 on.
std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    symbols[byte] = utf8(printable ? byte : next++);
  }
  return symbols;
}

/// A BPE without merges: every byte is a token, and the rest of the vocabulary is never used.
ordered_json tokenizer_json(std::uint32_t vocab) {
  ordered_json tokens{{"<unk>", kUnknown}, {"<s>", kBegin}, {"</s>", kEnd}};
  ordered_json added = ordered_json::array();
  for (const auto& [content, id] : tokens.items()) {
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  TokenId id = kFirstByte;
  for (const std::string& symbol : byte_symbols()) tokens[symbol] = id++;
  // Inserting into an ordered object looks for the key: build the long rest by itself.
  ordered_json::object_t& all = tokens.get_ref<ordered_json::object_t&>();
  for (; id < vocab; ++id) all.emplace_back("<extra_" + std::to_string(id) + ">", id);
  const ordered_json bytes{{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const ordered_json begin{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const ordered_json text{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const ordered_json second{{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", bytes},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {begin, text}},
        {"pair", {begin, text, second}},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {kBegin}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder", bytes},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"vocab", std::move(tokens)},
        {"merges", ordered_json::array()}}}};
}

/// Uniform values of one tensor, a function of (seed, name, index) only.
class Weights {
 public:
  Weights(std::uint64_t seed, const TensorSpec& spec) : state_(seed) {
    for (const char c : spec.name) state_ = mix(state_ ^ static_cast<unsigned char>(c));
    // A norm's weights are ones; a matrix keeps the size of what goes through it.
    if (spec.shape.size() > 1) spread_ = std::sqrt(3.0F / static_cast<float>(spec.shape.back()));
    if (spec.name == "model.embed_tokens.weight") spread_ = std::sqrt(3.0F);
  }

  void fill(std::vector<float>& out) {
    if (spread_ == 0.0F) {
      std::fill(out.begin(), out.end(), 1.0F);
      return;
    }
    for (std::size_t i = 0; i < out.size(); i += 4) {
      std::uint64_t bits = mix(state_ += 0x9e3779b97f4a7c15U);
      for (std::size_t j = i; j < std::min(i + 4, out.size()); ++j, bits >>= 16) {
        out[j] = (static_cast<float>(bits & 0xffff) - 32767.5F) * (spread_ / 32768.0F);
      }
    }
  }

 private:
  static std::uint64_t mix(std::uint64_t x) {  // splitmix64's finaliser (Steele et al. 2014)
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return x ^ x >> 31;
  }

  std::uint64_t state_;
  float spread_ = 0.0F;
};

std::uint64_t element_count(const TensorSpec& spec) {
  std::uint64_t count = 1;
  for (const std::uint64_t size : spec.shape) count *= size;
  return count;
}

struct ShardPlan {
  std::string file;
  std::vector<const TensorSpec*> tensors;
};

std::vector<ShardPlan> plan_shards(const std::vector<TensorSpec>& specs,
                                   const SynthOptions& options) {
  std::vector<ShardPlan> shards(1);
  std::uint64_t filled = 0;
  for (const TensorSpec& spec : specs) {
    const std::uint64_t bytes = element_count(spec) * bytes_of(options.dtype);
    if (filled > 0 && filled + bytes > options.shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().tensors.push_back(&spec);
    filled += bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", i + 1,
                  shards.size());
    shards[i].file = shards.size() == 1 ? "model.safetensors" : name.data();
  }
  return shards;
}

class Writer {
 public:
  Writer(const fs::path& folder, const SynthOptions& options, std::uint64_t total)
      : folder_(folder), options_(options), total_(total) {}

  Result<void> json(const std::string& name, const ordered_json& value) {
    std::ofstream out(folder_ / name, std::ios::binary | std::ios::trunc);
    out << value.dump(1, ' ') << '\n';
    return closed(out, name);
  }

  Result<void> shard(const ShardPlan& plan) {
    std::ofstream out(folder_ / plan.file, std::ios::binary | std::ios::trunc);
    write_header(out, plan);
    std::vector<float> values;
    std::vector<std::byte> bytes;
    for (const TensorSpec* spec : plan.tensors) {
      Weights weights(options_.seed, *spec);
      for (std::uint64_t left = element_count(*spec); left > 0 && out; left -= values.size()) {
        values.resize(std::min<std::uint64_t>(left, kChunkElements));
        weights.fill(values);
        encode(values, bytes);
        out.write(reinterpret_cast<const char*>(bytes.data()),
                  static_cast<std::streamsize>(bytes.size()));
        written_ += bytes.size();
        if (options_.on_progress) options_.on_progress(written_, total_);
      }
    }
    return closed(out, plan.file);
  }

 private:
  void write_header(std::ofstream& out, const ShardPlan& plan) const {
    ordered_json header{{"__metadata__", {{"format", "pt"}}}};
    std::uint64_t offset = 0;
    for (const TensorSpec* spec : plan.tensors) {
      const std::uint64_t end = offset + element_count(*spec) * bytes_of(options_.dtype);
      header[spec->name] = {{"dtype", file_name(options_.dtype)},
                            {"shape", spec->shape},
                            {"data_offsets", {offset, end}}};
      offset = end;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // tensor data starts on 8 bytes
    std::array<char, 8> length{};
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
    out.write(length.data(), length.size());
    out << text;
  }

  void encode(const std::vector<float>& values, std::vector<std::byte>& bytes) const {
    bytes.resize(values.size() * bytes_of(options_.dtype));
    if (options_.dtype == DType::f32) {
      std::memcpy(bytes.data(), values.data(), bytes.size());
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint16_t half =
          options_.dtype == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  }

  static Result<void> closed(std::ofstream& out, const std::string& name) {
    out.close();
    if (!out) return {Errc::io_error, "cannot write " + name + " (is the disk full?)"};
    return {};
  }

  const fs::path& folder_;
  const SynthOptions& options_;
  std::uint64_t total_;
  std::uint64_t written_ = 0;
};

Result<void> write_index(Writer& writer, const std::vector<ShardPlan>& shards,
                         std::uint64_t total) {
  ordered_json files;
  for (const ShardPlan& shard : shards) {
    for (const TensorSpec* spec : shard.tensors) files[spec->name] = shard.file;
  }
  return writer.json("model.safetensors.index.json",
                     {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(files)}});
}

}  // namespace

std::vector<std::string> synthetic_shapes() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

Result<void> write_synthetic_model(const fs::path& folder, const SynthOptions& options) {
  const auto shape = std::find_if(kShapes.begin(), kShapes.end(),
                                  [&](const Shape& s) { return options.shape == s.name; });
  if (shape == kShapes.end()) {
    return {Errc::invalid_argument, "there is no synthetic shape '" + options.shape + "'"};
  }
  if (options.dtype != DType::f32 && options.dtype != DType::bf16 && options.dtype != DType::f16) {
    return {Errc::invalid_argument, "synthetic weights are f32, bf16 or f16"};
  }
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) return {Errc::io_error, "cannot make the folder: " + failed.message()};

  const ordered_json described = config_json(*shape, options.dtype);
  const Result<ModelConfig> config = parse_model_config(described.dump());
  if (!config) return config.error();
  const auto specs = required_tensors(*config, {0, config->num_layers}, /*head=*/true);
  std::uint64_t total = 0;
  for (const TensorSpec& spec : specs) total += element_count(spec) * bytes_of(options.dtype);

  Writer writer(folder, options, total);
  const std::vector<ShardPlan> shards = plan_shards(specs, options);
  for (const ShardPlan& shard : shards) {
    if (Result<void> written = writer.shard(shard); !written) return written;
  }
  if (shards.size() > 1) {
    if (Result<void> written = write_index(writer, shards, total); !written) return written;
  }
  const Result<void> tokens = writer.json("tokenizer.json", tokenizer_json(shape->vocab));
  if (!tokens) return tokens;
  const Result<void> settings =
      writer.json("tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                            {"bos_token", "<s>"},
                                            {"eos_token", "</s>"},
                                            {"unk_token", "<unk>"}});
  if (!settings) return settings;
  return writer.json("config.json", described);
}

}  // namespace farmesh::model
