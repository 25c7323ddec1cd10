#include "text/token_decoder.hpp"

#include <charconv>

#include <nlohmann/json.hpp>

#include "text/byte_alphabet.hpp"
#include "text/json_fields.hpp"
#include "text/utf8.hpp"

namespace farmesh::text {
namespace {

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(from, done)) != text.npos; done = at + from.size()) {
    out.append(text.substr(done, at - done)).append(to);
  }
  return out.append(text.substr(done));
}

/// A token of the byte alphabet as its bytes; any other token as it is.
std::string from_byte_alphabet(std::string_view token) {
  std::string out;
  for (std::string_view left = token; !left.empty();) {
    std::size_t size = 0;
    const std::optional<std::uint8_t> byte = byte_of(next_valid_char(left, size));
    if (!byte) return std::string(token);
    out += static_cast<char>(*byte);
    left.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::optional<std::uint8_t> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  std::uint8_t byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return byte;
}

Result<TokenDecoder> TokenDecoder::create(const nlohmann::json& component) {
  if (component.is_null()) return unsupported("decoder", "null");
  TokenDecoder decoder;
  const Result<void> added = decoder.add(component, 0);
  if (!added) return added.error();
  return decoder;
}

Result<void> TokenDecoder::add(const nlohmann::json& component, std::size_t depth) {
  JsonFields fields(component, "decoder");
  const std::string type = fields.type();
  if (fields.bad()) return fields.error();
  if (type == "Sequence") {
    const nlohmann::json& list = fields.require("decoders");
    if (!list.is_array() || list.size() > kMaxSteps || depth == kMaxNested) {
      return {Errc::tokenizer_malformed, "decoder Sequence is not a short list"};
    }
    for (const nlohmann::json& item : list) {
      Result<void> added = add(item, depth + 1);
      if (!added) return added;
    }
    return {};
  }
  if (type == "Replace") return add_replace(fields);
  if (type == "Metaspace") return add_metaspace(fields);
  if (type == "Strip") return add_strip(fields);
  if (type == "ByteLevel") {
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    fused_ = true;
  } else {
    return unsupported("decoder", type);
  }
  return {};
}

Result<void> TokenDecoder::add_replace(JsonFields& fields) {
  JsonFields pattern(fields.require("pattern"), "decoder Replace pattern");
  if (pattern.find("Regex") != nullptr) return unsupported("decoder", "Replace with a regex");
  const std::string from = pattern.text("String");
  const std::string to = fields.text("content");
  if (pattern.bad()) return pattern.error();
  if (fields.bad()) return fields.error();
  if (from.empty()) return {Errc::tokenizer_malformed, "decoder Replace of nothing"};
  // On fused text a longer pattern could reach over two tokens.
  if (fused_ && count_chars(from) > 1) return unsupported("decoder", "Replace after Fuse");
  replacements_.emplace_back(from, to);
  return {};
}

Result<void> TokenDecoder::add_metaspace(JsonFields& fields) {
  const std::string replacement = fields.text("replacement");
  const bool prefixed = fields.boolean_or("add_prefix_space", true) &&
                        fields.text_or("prepend_scheme", "always") != "never";
  if (fields.bad()) return fields.error();
  if (replacement.empty()) return {Errc::tokenizer_malformed, "decoder Metaspace of nothing"};
  replacements_.emplace_back(replacement, " ");
  strips_leading_space_ = strips_leading_space_ || prefixed;
  return {};
}

Result<void> TokenDecoder::add_strip(JsonFields& fields) {
  const std::string content = fields.text("content");
  const std::uint64_t start = fields.number("start");
  const std::uint64_t stop = fields.number("stop");
  if (fields.bad()) return fields.error();
  if (start == 0 && stop == 0) return {};
  if (!fused_ || content != " " || start != 1 || stop != 0) {
    return unsupported("decoder", "Strip other than of one leading space");
  }
  strips_leading_space_ = true;
  return {};
}

std::string TokenDecoder::bytes(std::string_view token) const {
  if (byte_fallback_) {
    if (const auto byte = byte_token(token)) return std::string(1, static_cast<char>(*byte));
  }
  std::string out(token);
  for (const auto& [from, to] : replacements_) out = replaced(out, from, to);
  return byte_level_ ? from_byte_alphabet(out) : out;
}

}  // namespace farmesh::text
