#include "text/sentencepiece_spec.hpp"

#include <cstdint>
#include <optional>

namespace farmesh::text {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr std::uint64_t kTrainerSpec = 2;
constexpr std::uint64_t kNormalizerSpec = 3;
constexpr std::uint64_t kDenormalizerSpec = 5;
constexpr std::uint64_t kTreatWhitespaceAsSuffix = 24;
constexpr std::uint64_t kPrecompiledCharsmap = 2;
constexpr std::uint64_t kAddDummyPrefix = 3;
constexpr std::uint64_t kRemoveExtraWhitespaces = 4;
constexpr std::uint64_t kEscapeWhitespaces = 5;

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;   // of a varint
  std::string_view payload;  // of a length-delimited field
};

/// Walks the fields of one protobuf message.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  /// The next field; nothing at the end of the message or at damage.
  std::optional<Field> next() {
    if (left_.empty() || damaged_) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{tag >> 3, 0, {}};
    switch (tag & 7) {
      case 0: field.value = varint(); break;
      case 1: take(8); break;
      case 2: field.payload = take(varint()); break;
      case 5: take(4); break;
      default: damaged_ = true;  // groups, which this format has never used
    }
    if (damaged_) return std::nullopt;
    return field;
  }

  bool damaged() const { return damaged_; }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !left_.empty(); shift += 7) {
      const auto byte = static_cast<std::uint8_t>(left_.front());
      left_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    damaged_ = true;
    return 0;
  }

  std::string_view take(std::uint64_t count) {
    if (damaged_ || count > left_.size()) {
      damaged_ = true;
      return {};
    }
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }

  std::string_view left_;
  bool damaged_ = false;
};

bool read_normalizer(std::string_view message, SentencePieceSpec& spec) {
  Fields fields(message);
  while (const auto field = fields.next()) {
    if (field->number == kPrecompiledCharsmap) spec.has_character_map |= !field->payload.empty();
    if (field->number == kAddDummyPrefix) spec.adds_dummy_prefix = field->value != 0;
    if (field->number == kRemoveExtraWhitespaces) spec.removes_extra_whitespace = field->value != 0;
    if (field->number == kEscapeWhitespaces) spec.escapes_whitespace = field->value != 0;
  }
  return !fields.damaged();
}

bool read_trainer(std::string_view message, SentencePieceSpec& spec) {
  Fields fields(message);
  while (const auto field = fields.next()) {
    if (field->number == kTreatWhitespaceAsSuffix) spec.whitespace_is_suffix = field->value != 0;
  }
  return !fields.damaged();
}

}  // namespace

Result<SentencePieceSpec> read_sentencepiece_spec(std::string_view model_proto) {
  SentencePieceSpec spec;
  SentencePieceSpec denormalizer;
  Fields fields(model_proto);
  bool sound = true;
  while (const auto field = fields.next()) {
    if (field->number == kTrainerSpec) sound &= read_trainer(field->payload, spec);
    if (field->number == kNormalizerSpec) sound &= read_normalizer(field->payload, spec);
    if (field->number == kDenormalizerSpec) sound &= read_normalizer(field->payload, denormalizer);
  }
  if (!sound || fields.damaged()) {
    return Error{Errc::tokenizer_malformed, "tokenizer.model: not a SentencePiece model"};
  }
  spec.has_character_map |= denormalizer.has_character_map;
  return spec;
}

}  // namespace farmesh::text
