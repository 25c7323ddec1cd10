// What the tests of text/ share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/mapped_file.hpp"
#include "support/temp_dir.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::text::test {

inline const std::filesystem::path kHere = FARMESH_SOURCE_DIR "/tests/unit/text";
inline const std::filesystem::path kShared = FARMESH_SOURCE_DIR "/../shared";

/// True, with a message, when a test's data is not on this machine.
inline bool absent(const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) return false;
  MESSAGE("skipped: " << path.string() << " is absent");
  return true;
}

inline std::string read(const std::filesystem::path& path) {
  Result<std::string> text = read_text_file(path, kMaxTokenizerBytes);
  REQUIRE_MESSAGE(text, path.string());
  return *text;
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(read(path));
}

/// A byte-level tokenizer.json with the whole byte alphabet, to be changed by the tests.
inline nlohmann::json small_tokenizer() {
  return read_json(kHere / "goldens/tokenizers.json")[0]["tokenizer"];
}

}  // namespace farmesh::text::test
