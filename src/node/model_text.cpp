#include "node/model_text.hpp"

#include <utility>

#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"
#include "weights/model_source.hpp"

namespace farmesh::node {

Result<void> read_model_text(const std::filesystem::path& folder, const model::ModelConfig& config,
                             client::SharedModel& shared) {
  auto tokenizer = text::load_tokenizer(folder);
  if (!tokenizer) return tokenizer.error();
  shared.tokenizer = *std::move(tokenizer);
  shared.chat_template = text::ChatTemplate::load(folder);

  shared.num_layers = config.num_layers;
  shared.hidden_size = config.hidden_size;
  shared.vocab_size = config.vocab_size;
  shared.context_tokens = config.max_position;
  shared.eos_tokens = config.eos_tokens;
  if (shared.eos_tokens.empty() && shared.tokenizer->eos()) {
    shared.eos_tokens = {*shared.tokenizer->eos()};
  }
  return {};
}

std::string display_name(const std::string& model) {
  if (weights::is_model_id(model)) return model;
  const std::filesystem::path folder(model);
  const std::filesystem::path plain = folder.lexically_normal();
  return (plain.has_filename() ? plain : plain.parent_path()).filename().string();
}

}  // namespace farmesh::node
