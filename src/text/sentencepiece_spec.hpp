// The few switches of a SentencePiece model that its library does not tell.
#pragma once

#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::text {

struct SentencePieceSpec {
  bool adds_dummy_prefix = true;
  bool removes_extra_whitespace = true;
  bool escapes_whitespace = true;
  bool whitespace_is_suffix = false;
  bool has_character_map = false;  // a compiled table of replacements
};

/// Reads the serialized ModelProto's trainer_spec and normalizer_spec
/// (sentencepiece_model.proto). Fails with tokenizer_malformed when the bytes are no protobuf.
Result<SentencePieceSpec> read_sentencepiece_spec(std::string_view model_proto);

/// Appended to a ModelProto, this turns add_dummy_prefix and remove_extra_whitespaces off:
/// protobuf merges a message that occurs twice, and the later value of a field counts.
inline constexpr std::string_view kPlainWhitespace{"\x1A\x04\x18\x00\x20\x00", 6};

}  // namespace farmesh::text
