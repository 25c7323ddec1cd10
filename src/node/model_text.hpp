// The text side of a model folder: tokenizer and chat template.
#pragma once

#include <filesystem>
#include <string>

#include <farmesh/result.hpp>

#include "client/shared_model.hpp"
#include "model/model_config.hpp"

namespace farmesh::node {

/// Fills in what a session needs to know of the text side: tokenizer, template, sizes, end
/// tokens. Fails as the tokenizer does; a model without a chat template is no failure.
Result<void> read_model_text(const std::filesystem::path& folder, const model::ModelConfig& config,
                             client::SharedModel& shared);

/// A model's name for display: its id, or its folder's own name.
std::string display_name(const std::string& model);

}  // namespace farmesh::node
