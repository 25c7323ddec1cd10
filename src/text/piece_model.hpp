// libsentencepiece behind a face of our own, in a library of its own.
//
// libsentencepiece exports the protobuf it was built with. Linked into the program, that would
// answer for libtorch's; so piece_model.cpp makes libfarmesh_sentencepiece.so, which is opened
// with local symbols when a model first ships a tokenizer.model.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace farmesh::text {

/// A loaded tokenizer.model. Immutable; thread-safe.
class PieceModel {
 public:
  virtual ~PieceModel() = default;

  virtual int size() const = 0;
  /// For 0 <= id < size(); valid while the model lives.
  virtual const std::string& piece(int id) const = 0;
  virtual bool is_control(int id) const = 0;
  virtual bool is_unknown(int id) const = 0;
  virtual bool is_byte(int id) const = 0;
  /// The unknown token's id when there is no such piece.
  virtual int find(std::string_view piece) const = 0;
  virtual int bos() const = 0;  // negative: none
  virtual int eos() const = 0;
  /// Replaces `ids`; false when the library fails.
  virtual bool encode(std::string_view text, std::vector<int>& ids) const = 0;
};

/// The factory exported as kPieceModelSymbol: null, with `problem` filled, when the library
/// refuses the file.
using PieceModelFactory = PieceModel* (*)(std::string_view model_proto, std::string* problem);
inline constexpr const char* kPieceModelLibrary = "libfarmesh_sentencepiece.so";
inline constexpr const char* kPieceModelSymbol = "farmesh_piece_model_v1";

}  // namespace farmesh::text
