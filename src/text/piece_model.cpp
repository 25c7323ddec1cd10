#include "text/piece_model.hpp"

#include <exception>

#include <sentencepiece_processor.h>

namespace farmesh::text {
namespace {

class LibraryModel final : public PieceModel {
 public:
  bool load(std::string_view model_proto) {
    return processor_.LoadFromSerializedProto(model_proto).ok();
  }

  int size() const override { return processor_.GetPieceSize(); }
  const std::string& piece(int id) const override { return processor_.IdToPiece(id); }
  bool is_control(int id) const override { return processor_.IsControl(id); }
  bool is_unknown(int id) const override { return processor_.IsUnknown(id); }
  bool is_byte(int id) const override { return processor_.IsByte(id); }
  int find(std::string_view piece) const override { return processor_.PieceToId(piece); }
  int bos() const override { return processor_.bos_id(); }
  int eos() const override { return processor_.eos_id(); }
  bool encode(std::string_view text, std::vector<int>& ids) const override {
    return processor_.Encode(text, &ids).ok();
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace
}  // namespace farmesh::text

extern "C" __attribute__((visibility("default"))) farmesh::text::PieceModel* farmesh_piece_model_v1(
    std::string_view model_proto, std::string* problem) {
  try {
    auto model = std::make_unique<farmesh::text::LibraryModel>();
    if (model->load(model_proto)) return model.release();
    *problem = "libsentencepiece refuses it";
  } catch (const std::exception& failure) {  // from the library's own trie builder
    *problem = failure.what();
  }
  return nullptr;
}
