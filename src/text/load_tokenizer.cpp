#include "base/mapped_file.hpp"
#include "text/json_tokenizer.hpp"
#include "text/sentencepiece_tokenizer.hpp"
#include "text/tokenizer.hpp"
#include "text/tokenizer_settings.hpp"

namespace farmesh::text {
namespace {

std::string_view text_of(const MappedFile& file) {
  const ByteView bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::filesystem::path& folder) {
  const Result<TokenizerSettings> settings = read_tokenizer_settings(folder);
  if (!settings) return settings.error();
  const Result<MappedFile> json = MappedFile::open(folder / "tokenizer.json");
  if (json) return make_json_tokenizer(text_of(*json), *settings);
  if (json.error().code != Errc::model_not_found) return json.error();
  const Result<MappedFile> model = MappedFile::open(folder / "tokenizer.model");
  if (model) return make_sentencepiece_tokenizer(text_of(*model), *settings);
  if (model.error().code != Errc::model_not_found) return model.error();
  return Error{Errc::model_not_found, "the folder has neither tokenizer.json nor tokenizer.model"};
}

}  // namespace farmesh::text
