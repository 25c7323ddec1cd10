#include "train/vocabulary.hpp"

#include <fstream>
#include <unordered_map>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "train/token_file.hpp"

namespace farmesh::train {
namespace {

/// SentencePiece's way to read a list.
class TextList final : public sentencepiece::SentenceIterator {
 public:
  explicit TextList(const std::vector<std::string>& texts) noexcept : texts_(texts) {}

  bool done() const override { return index_ == texts_.size(); }
  void Next() override { ++index_; }
  const std::string& value() const override { return texts_[index_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& texts_;
  std::size_t index_ = 0;
};

}  // namespace

struct Vocabulary::Impl {
  sentencepiece::SentencePieceProcessor processor;
};

Vocabulary::Vocabulary(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Vocabulary::Vocabulary(Vocabulary&&) noexcept = default;
Vocabulary& Vocabulary::operator=(Vocabulary&&) noexcept = default;
Vocabulary::~Vocabulary() = default;

Result<void> Vocabulary::learn(const std::vector<std::string>& texts, int size,
                               const std::filesystem::path& file) {
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(size)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"character_coverage", "1.0"},
      {"unk_id", std::to_string(kUnknownId)},
      {"bos_id", std::to_string(kBosId)},
      {"eos_id", std::to_string(kEosId)},
      {"pad_id", "-1"},
      {"control_symbols", std::string(kUserPiece) + "," + std::string(kAssistantPiece)},
      {"num_threads", "1"},
      {"minloglevel", "1"},
  };
  TextList list(texts);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &list, &model);
  if (!status.ok()) return Error{Errc::invalid_argument, status.ToString()};
  std::ofstream out(file, std::ios::binary);
  out << model;
  out.close();
  if (!out) return Error{Errc::io_error, "cannot write " + file.string()};
  return {};
}

Result<Vocabulary> Vocabulary::open(const std::filesystem::path& file) {
  auto impl = std::make_unique<Impl>();
  const auto status = impl->processor.Load(file.string());
  if (!status.ok()) return Error{Errc::tokenizer_malformed, status.ToString()};
  const auto& processor = impl->processor;
  if (processor.PieceToId(std::string(kUserPiece)) != kUserId ||
      processor.PieceToId(std::string(kAssistantPiece)) != kAssistantId) {
    return Error{Errc::tokenizer_malformed, file.string() + " lacks the pieces of a conversation"};
  }
  return Vocabulary(std::move(impl));
}

int Vocabulary::size() const { return impl_->processor.GetPieceSize(); }

std::vector<int> Vocabulary::encode(std::string_view text) const {
  return impl_->processor.EncodeAsIds(std::string(text));
}

std::vector<int> Vocabulary::prompt(std::string_view text, bool chat) const {
  std::vector<int> ids{kBosId};
  if (chat) ids.push_back(kUserId);
  for (const int id : encode(text)) ids.push_back(id);
  if (chat) ids.push_back(kAssistantId);
  return ids;
}

std::vector<std::uint16_t> Vocabulary::tokens(const Document& document) const {
  std::vector<std::uint16_t> tokens{kBosId | kNotLearned};
  const auto append = [&](const std::vector<int>& ids, std::uint16_t mark) {
    for (const int id : ids) tokens.push_back(static_cast<std::uint16_t>(id) | mark);
  };
  if (!document.story.empty()) {
    append(encode(document.story), 0);
    append({kEosId}, 0);
  }
  for (const Turn& turn : document.turns) {
    append({kUserId}, kNotLearned);
    append(encode(turn.user), kNotLearned);
    append({kAssistantId}, kNotLearned);
    append(encode(turn.reply), 0);
    append({kEosId}, 0);
  }
  return tokens;
}

std::string Vocabulary::decode(const std::vector<int>& ids) const {
  return impl_->processor.DecodeIds(ids);
}

}  // namespace farmesh::train
