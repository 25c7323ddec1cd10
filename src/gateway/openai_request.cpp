#include "gateway/openai_request.hpp"

#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "gateway/json_fields.hpp"

namespace farmesh::gateway {
namespace {

using nlohmann::json;

constexpr std::uint32_t kMostTokens = 1'000'000'000;
constexpr std::size_t kMaxNameBytes = 512;

void read_max_tokens(JsonFields& fields, OpenAiOptions& options) {
  // The second is OpenAI's older name; the first wins where both are given.
  const auto now = fields.integer("max_completion_tokens", 1, kMostTokens);
  const auto before = fields.integer("max_tokens", 1, kMostTokens);
  if (now || before) options.max_tokens = std::uint32_t(now ? *now : *before);
}

void read_stop(JsonFields& fields, GenerateOptions& generate) {
  const json* stop = fields.find("stop");
  if (stop == nullptr) return;
  const auto add = [&](const json& text) {
    if (!text.is_string()) return fields.fail_type("stop", "a string or an array of them", text);
    generate.stop.push_back(text.get<std::string>());
    if (generate.stop.back().empty() || generate.stop.back().size() > 256) {
      fields.fail("stop", "invalid_value", "Invalid 'stop': each must have 1 to 256 bytes.");
    }
  };
  if (!stop->is_array()) return add(*stop);
  if (stop->size() > 16) {
    return fields.fail("stop", "array_above_max_length", "'stop' has more than 16 strings.");
  }
  for (const json& text : *stop) add(text);
}

void read_logit_bias(JsonFields& fields, SamplingOptions& sampling) {
  const json* biases = fields.find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) return fields.fail_type("logit_bias", "an object", *biases);
  if (biases->size() > kMaxLogitBiases) {
    return fields.fail("logit_bias", "invalid_value",
                       fmt::format("'logit_bias' has more than {} tokens.", kMaxLogitBiases));
  }
  for (const auto& [key, value] : biases->items()) {
    LogitBias bias;
    const auto [stopped, failure] =
        std::from_chars(key.data(), key.data() + key.size(), bias.token);
    const bool is_token =
        !key.empty() && failure == std::errc() && stopped == key.data() + key.size();
    const double amount = value.is_number() ? value.get<double>() : 1e9;
    if (!is_token || !(amount >= -100 && amount <= 100)) {
      return fields.fail("logit_bias", "invalid_value",
                         "Invalid 'logit_bias': expected token ids with numbers from -100 to 100.");
    }
    bias.bias = float(amount);
    sampling.logit_bias.push_back(bias);
  }
}

void read_sampling(JsonFields& fields, OpenAiOptions& options) {
  SamplingOptions& sampling = options.generate.sampling;
  sampling.temperature = float(fields.number("temperature", 0, 2).value_or(1));
  sampling.top_p = float(fields.number("top_p", 0, 1).value_or(1));
  sampling.presence_penalty = float(fields.number("presence_penalty", -2, 2).value_or(0));
  sampling.frequency_penalty = float(fields.number("frequency_penalty", -2, 2).value_or(0));
  sampling.top_k = std::uint32_t(fields.integer("top_k", 0, INT32_MAX).value_or(0));
  sampling.min_p = float(fields.number("min_p", 0, 1).value_or(0));
  sampling.repetition_penalty = float(fields.number("repetition_penalty", 0.01, 10).value_or(1));
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    sampling.seed = std::uint64_t(*seed);
    options.has_seed = true;
  }
  // A nucleus of nothing still holds the likeliest token, which is what greedy means.
  if (sampling.top_p == 0) {
    sampling.top_p = 1;
    sampling.top_k = 1;
  }
  read_logit_bias(fields, sampling);
}

/// A field that may hold only the value that changes nothing.
void read_only_default(JsonFields& fields, std::string_view key,
                       std::initializer_list<json> harmless) {
  const json* value = fields.find(key);
  if (value == nullptr) return;
  for (const json& fine : harmless) {
    if (*value == fine) return;
  }
  fields.fail(key, "unsupported_parameter",
              fmt::format("Unsupported value: '{}' is not served here yet.", fields.path(key)));
}

void read_stream_options(JsonFields& fields, OpenAiOptions& options) {
  options.stream = fields.flag("stream").value_or(false);
  const json* given = fields.find("stream_options");
  if (given == nullptr) return;
  if (!given->is_object()) return fields.fail_type("stream_options", "an object", *given);
  if (!options.stream) {
    return fields.fail("stream_options", "invalid_value",
                       "'stream_options' is only allowed when 'stream' is true.");
  }
  JsonFields inner(*given, "stream_options");
  options.include_usage = inner.flag("include_usage").value_or(false);
  options.include_nodes = inner.flag("include_nodes").value_or(false);
  read_only_default(inner, "include_obfuscation", {false});
  inner.refuse_others();
  if (inner.failed()) fields.fail(inner.problem());
}

void read_common(JsonFields& fields, OpenAiOptions& options) {
  options.model = fields.required_text("model", kMaxModelIdBytes);
  read_max_tokens(fields, options);
  read_sampling(fields, options);
  read_stop(fields, options.generate);
  read_stream_options(fields, options);
  options.generate.ignore_eos = fields.flag("ignore_eos").value_or(false);
  options.choices = std::uint32_t(fields.integer("n", 1, kMaxChoices).value_or(1));
  options.user = fields.text("user", kMaxNameBytes).value_or("");
  options.max_cost = fields.amount("max_cost_far");
  options.tier = fields.text("tier", 32).value_or("");
}

// What OpenAI's clients send to say who asks, for the server's own use: told to nobody.
void read_chat_identifiers(JsonFields& fields) {
  for (const char* key : {"safety_identifier", "prompt_cache_key"}) fields.text(key, kMaxNameBytes);
}

// What cannot be served. A value that asks for what is done anyway is none of it.
void read_unserved_chat_fields(JsonFields& fields) {
  read_only_default(fields, "store", {false});
  read_only_default(fields, "metadata", {json::object()});
  read_only_default(fields, "prompt_cache_retention", {"in_memory", "in-memory"});
  read_only_default(fields, "service_tier", {"auto", "default"});
  read_only_default(fields, "tools", {json::array()});
  read_only_default(fields, "tool_choice", {"none", "auto"});
  read_only_default(fields, "functions", {json::array()});
  read_only_default(fields, "function_call", {"none", "auto"});
  read_only_default(fields, "modalities", {json::array({"text"})});
  read_only_default(fields, "response_format", {json{{"type", "text"}}});
  fields.refuse({"audio", "web_search_options", "reasoning_effort", "verbosity", "prediction",
                 "parallel_tool_calls"});
}

void read_chat_logprobs(JsonFields& fields, OpenAiOptions& options) {
  options.logprobs = fields.flag("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, 20);
  if (!top) return;
  if (!options.logprobs) {
    return fields.fail("top_logprobs", "invalid_value",
                       "'top_logprobs' is only allowed when 'logprobs' is true.");
  }
  options.generate.sampling.top_logprobs = std::uint32_t(*top);
}

// A string, or an array of {"type":"text","text"} that are joined as they stand.
std::string read_content(JsonFields& message, const json& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (!content.is_array()) {
    message.fail_type("content", "a string or an array of parts", content);
    return text;
  }
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string key = fmt::format("content[{}]", i);
    if (!content[i].is_object()) {
      message.fail_type(key, "an object", content[i]);
      return text;
    }
    JsonFields part(content[i], message.path(key));
    const std::string type = part.required_text("type", 64);
    if (!part.failed() && type != "text") {
      part.fail("type", "unsupported_parameter",
                fmt::format("Unsupported value: '{}' must be 'text'; images, audio and files are "
                            "not served here yet.",
                            part.path("type")));
    }
    text += part.required_text("text", kMaxBodyBytes);
    part.refuse_others();
    if (part.failed()) {
      message.fail(part.problem());
      return text;
    }
  }
  return text;
}

ChatMessage read_message(JsonFields& message) {
  ChatMessage read;
  read.role = message.required_text("role", 32);
  if (read.role == "developer") read.role = "system";  // OpenAI's newer name
  if (!message.failed() && read.role != "system" && read.role != "user" &&
      read.role != "assistant") {
    message.fail("role", "invalid_value",
                 fmt::format("Invalid '{}': expected system, developer, user or assistant.",
                             message.path("role")));
  }
  // A client may hand back an answer's whole message; what would say more than its text may not be.
  for (const char* key : {"tool_calls", "annotations"}) {
    read_only_default(message, key, {json::array()});
  }
  message.refuse({"name", "refusal", "function_call", "audio", "tool_call_id"});
  const json* content = message.find("content");
  if (content != nullptr) {
    read.content = read_content(message, *content);
  } else {
    message.required_text("content", 1);  // says that it is missing
  }
  message.refuse_others();
  return read;
}

void read_messages(JsonFields& fields, std::vector<ChatMessage>& messages) {
  const json* list = fields.find("messages");
  if (list == nullptr) {
    fields.required_text("messages", 1);
    return;
  }
  if (!list->is_array()) return fields.fail_type("messages", "an array of objects", *list);
  if (list->empty() || list->size() > kMaxMessages) {
    return fields.fail("messages", "invalid_value",
                       fmt::format("'messages' must have 1 to {} of them.", kMaxMessages));
  }
  for (std::size_t i = 0; i < list->size() && !fields.failed(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    if (!(*list)[i].is_object()) return fields.fail_type(where, "an object", (*list)[i]);
    JsonFields message((*list)[i], where);
    messages.push_back(read_message(message));
    if (message.failed()) fields.fail(message.problem());
  }
}

std::optional<std::vector<TokenId>> read_ids(const json& list) {
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::uint64_t(INT32_MAX)) {
      return std::nullopt;
    }
    ids.push_back(TokenId(id.get<std::uint64_t>()));
  }
  return ids;
}

// A string, an array of strings, an array of token ids, or an array of arrays of token ids.
void read_prompts(JsonFields& fields, std::vector<Prompt>& prompts) {
  const json* given = fields.find("prompt");
  if (given == nullptr) {
    fields.required_text("prompt", 1);
    return;
  }
  const auto wrong = [&] {
    fields.fail("prompt", "invalid_type",
                "Invalid 'prompt': expected a string, an array of strings, an array of token ids, "
                "or an array of such arrays.");
  };
  if (given->is_string()) {
    prompts.emplace_back(given->get<std::string>());
    return;
  }
  if (!given->is_array() || given->empty()) return wrong();
  if (given->front().is_number()) {
    auto ids = read_ids(*given);
    if (!ids) return wrong();
    prompts.emplace_back(*std::move(ids));
    return;
  }
  if (given->size() > kMaxPrompts) {
    return fields.fail("prompt", "array_above_max_length",
                       fmt::format("'prompt' has more than {} texts.", kMaxPrompts));
  }
  for (const json& one : *given) {
    if (one.is_string()) {
      prompts.emplace_back(one.get<std::string>());
    } else if (auto ids = one.is_array() && !one.empty() ? read_ids(one) : std::nullopt) {
      prompts.emplace_back(*std::move(ids));
    } else {
      return wrong();
    }
  }
}

void read_completion_logprobs(JsonFields& fields, CompletionRequest& request) {
  const auto top = fields.integer("logprobs", 0, 20);
  if (!top) return;
  request.options.logprobs = true;
  request.options.generate.sampling.top_logprobs = std::uint32_t(*top);
  if (request.echo) {
    fields.fail("logprobs", "unsupported_parameter",
                "Unsupported value: 'logprobs' together with 'echo' is not served here yet.");
  }
}

}  // namespace

Checked<ChatRequest> parse_chat_request(std::string_view body) {
  const Checked<json> parsed = parse_body(body);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  ChatRequest request;
  read_common(fields, request.options);
  read_messages(fields, request.messages);
  read_chat_logprobs(fields, request.options);
  read_chat_identifiers(fields);
  read_unserved_chat_fields(fields);
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return request;
}

Checked<CompletionRequest> parse_completion_request(std::string_view body) {
  const Checked<json> parsed = parse_body(body);
  if (!parsed) return parsed.problem();
  JsonFields fields(*parsed);
  CompletionRequest request;
  read_common(fields, request.options);
  if (!request.options.max_tokens) request.options.max_tokens = 16;
  read_prompts(fields, request.prompts);
  request.echo = fields.flag("echo").value_or(false);
  read_completion_logprobs(fields, request);
  if (request.prompts.size() * request.options.choices > kMaxSequences) {
    fields.fail("n", "invalid_value",
                fmt::format("'prompt' and 'n' ask for more than {} texts.", kMaxSequences));
  }
  const auto best_of = fields.integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != request.options.choices) {
    fields.fail("best_of", "unsupported_parameter",
                "Unsupported value: 'best_of' other than 'n' is not served here yet.");
  }
  if (fields.text("suffix", kMaxBodyBytes).value_or("") != "") {
    fields.fail("suffix", "unsupported_parameter",
                "Unsupported parameter: 'suffix' is not served here yet.");
  }
  fields.refuse_others();
  if (fields.failed()) return fields.problem();
  return request;
}

}  // namespace farmesh::gateway
