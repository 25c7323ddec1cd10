#include "train/token_file.hpp"

#include <algorithm>
#include <bit>
#include <fstream>

namespace farmesh::train {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint16_t kDocumentStart = kBosId | kNotLearned;

}  // namespace

Result<void> write_tokens(const std::filesystem::path& file,
                          const std::vector<std::uint16_t>& tokens) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(tokens.data()),
            static_cast<std::streamsize>(tokens.size() * sizeof tokens[0]));
  out.close();
  if (!out) return Error{Errc::io_error, "cannot write " + file.string()};
  return {};
}

Result<std::vector<std::uint16_t>> read_tokens(const std::filesystem::path& file) {
  std::error_code missing;
  const auto bytes = std::filesystem::file_size(file, missing);
  std::vector<std::uint16_t> tokens(missing ? 0 : bytes / sizeof(std::uint16_t));
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(tokens.data()),
          static_cast<std::streamsize>(tokens.size() * sizeof(std::uint16_t)));
  if (!in || tokens.empty() || tokens[0] != kDocumentStart) {
    return Error{Errc::io_error, "no corpus in " + file.string()};
  }
  return tokens;
}

std::size_t Corpus::document_end(std::size_t begin) const {
  const auto first = tokens_.begin() + static_cast<std::ptrdiff_t>(begin) + 1;
  return static_cast<std::size_t>(std::find(first, tokens_.end(), kDocumentStart) -
                                  tokens_.begin());
}

Batch Corpus::next(std::int64_t rows, std::int64_t length) {
  Batch batch{rows, length, {}, {}, {}};
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto row_end = static_cast<std::size_t>((row + 1) * length);
    for (std::int64_t in_row = 0; batch.inputs.size() < row_end; ++in_row) {
      const std::size_t end = document_end(position_);
      for (std::size_t i = position_; i + 1 < end && batch.inputs.size() < row_end; ++i) {
        const std::uint16_t target = tokens_[i + 1];
        batch.inputs.push_back(tokens_[i] & ~kNotLearned);
        batch.targets.push_back((target & kNotLearned) != 0 ? kNotScored : target);
        batch.documents.push_back(in_row);
      }
      position_ = end < tokens_.size() ? end : 0;
    }
  }
  return batch;
}

}  // namespace farmesh::train
