#include "cli/model_inspect.hpp"

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/exit_code.hpp"
#include "cli/json.hpp"
#include "cli/terminal.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "node/cache_folder.hpp"
#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string_view name_of(model::Activation activation) {
  switch (activation) {
    case model::Activation::silu: return "silu";
    case model::Activation::gelu: return "gelu";
    case model::Activation::gelu_tanh: return "gelu_tanh";
    case model::Activation::relu: return "relu";
  }
  return "?";
}

std::string_view name_of(model::RopeScaling scaling) {
  switch (scaling) {
    case model::RopeScaling::none: return "none";
    case model::RopeScaling::linear: return "linear";
    case model::RopeScaling::dynamic: return "dynamic";
    case model::RopeScaling::llama3: return "llama3";
    case model::RopeScaling::yarn: return "yarn";
  }
  return "?";
}

Json shape_of(const model::ModelConfig& config) {
  return {{"architecture", config.architecture},
          {"layers", config.num_layers},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"heads", config.num_heads},
          {"kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"context_tokens", config.max_position},
          {"activation", name_of(config.activation)},
          {"rope_theta", config.rope.theta},
          {"rope_scaling", name_of(config.rope.scaling)},
          {"tied_embeddings", config.tied_embeddings},
          {"end_tokens", config.eos_tokens}};
}

// Bytes by kind of layer: what a provider has to plan with.
Json sizes_of(const model::ModelFolder& folder) {
  const model::ModelConfig& config = folder.config();
  const auto bytes_of_all = [&folder](Span span, bool head) {
    std::uint64_t bytes = 0;
    for (const model::TensorSpec& spec : model::required_tensors(folder.config(), span, head)) {
      if (const auto tensor = folder.find(spec.name)) bytes += tensor->bytes.size();
    }
    return bytes;
  };
  std::uint64_t parameters = 0;
  for (const model::SafetensorsEntry& entry : folder.tensors()) {
    parameters += (entry.end - entry.begin) / bytes_of(entry.dtype);
  }
  return {{"parameters", parameters},
          {"dtype", name(config.file_dtype)},
          {"bytes_per_layer", bytes_of_all({0, 1}, false)},
          {"bytes_of_layers", bytes_of_all({0, config.num_layers}, false)},
          {"bytes_of_head", bytes_of_all({}, true)},
          {"cache_bytes_per_token_bf16",
           2ull * 2 * config.kv_size() * config.num_layers}};  // K and V, two bytes each
}

Json text_of(const std::string& path) {
  Json text;
  const auto tokenizer = text::load_tokenizer(path);
  text["tokenizer"] = tokenizer ? Json((*tokenizer)->vocab_size()) : Json();
  if (!tokenizer) text["tokenizer_error"] = tokenizer.error().to_string();
  const Result<text::ChatTemplate> chat = text::ChatTemplate::load(path);
  text["chat_template"] = chat.has_value();
  if (!chat && chat.error().code != Errc::model_not_found) {
    text["chat_template_error"] = chat.error().to_string();
  }
  return text;
}

Json tensors_of(const model::ModelFolder& folder) {
  Json tensors = Json::array();
  for (const model::SafetensorsEntry& entry : folder.tensors()) {
    tensors.push_back({{"name", entry.name}, {"dtype", name(entry.dtype)}, {"shape", entry.shape}});
  }
  return tensors;
}

std::string plain(const std::string& key, const Json& value) {
  if (key.find("bytes") != std::string::npos) return human_bytes(value.get<std::uint64_t>());
  if (value.is_string()) return value.get<std::string>();
  return value.dump();
}

void print_table(const Json& object) {
  for (const auto& [key, value] : object.items()) {
    if (key == "tensors") {
      fmt::print("\n");
      for (const Json& tensor : value) {
        fmt::print("{:<52} {:<5} {}\n", tensor["name"].get<std::string>(),
                   tensor["dtype"].get<std::string>(), tensor["shape"].dump());
      }
    } else {
      fmt::print("{:<28} {}\n", key, plain(key, value));
    }
  }
}

}  // namespace

int inspect_model(const std::string& path, bool list_tensors, bool json) {
  const auto folder = model::ModelFolder::open(path);
  if (!folder) return report(folder.error());
  const Span all{0, (*folder)->config().num_layers};
  if (const Result<void> checked = (*folder)->check_tensors(all, true); !checked) {
    return report(checked.error());
  }
  const Result<ModelHash> hash = model::model_hash(path, node::hash_cache_file());
  if (!hash) return report(hash.error());

  Json object = shape_of((*folder)->config());
  object.update(sizes_of(**folder));
  object.update(text_of(path));
  object["hash"] = model::to_hex(*hash);
  if (list_tensors) object["tensors"] = tensors_of(**folder);
  if (json) {
    fmt::print("{}", to_line(object));
  } else {
    print_table(object);
  }
  return kSuccess;
}

}  // namespace farmesh::cli
