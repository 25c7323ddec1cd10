#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "model/model_folder.hpp"

namespace farmesh::model {
namespace {

Errc code_of(const std::string& header, std::uint64_t data_bytes) {
  const auto parsed = parse_safetensors_header(header, data_bytes);
  return parsed ? Errc::ok : parsed.error().code;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(": {"dtype": ")" + dtype + R"(", "shape": )" + shape +
         R"(, "data_offsets": )" + offsets + "}";
}

TEST_SUITE("model/safetensors") {
  TEST_CASE("a header in any order gives its tensors") {
    const auto parsed = parse_safetensors_header(
        R"({"__metadata__": {"format": "pt", "note": "text"},)" +
            tensor("b", "BF16", "[2, 3]", "[4, 16]") + "," + tensor("a", "F32", "[]", "[0, 4]") +
            "," + tensor("empty", "F16", "[0, 7]", "[16, 16]") + "}   ",
        16);
    REQUIRE(parsed);
    REQUIRE(parsed->size() == 3);
    CHECK((*parsed)[0].name == "b");
    CHECK((*parsed)[0].dtype == DType::bf16);
    CHECK((*parsed)[0].shape == std::vector<std::uint64_t>{2, 3});
    CHECK((*parsed)[0].begin == 4);
    CHECK((*parsed)[0].end == 16);
  }

  TEST_CASE("offsets that lie are refused") {
    CHECK(code_of("{" + tensor("a", "F32", "[2]", "[0, 8]") + "}", 8) == Errc::ok);
    // Outside the file, backwards, or another size than shape and dtype say.
    CHECK(code_of("{" + tensor("a", "F32", "[2]", "[0, 8]") + "}", 7) == Errc::model_malformed);
    CHECK(code_of("{" + tensor("a", "F32", "[2]", "[8, 0]") + "}", 8) == Errc::model_malformed);
    CHECK(code_of("{" + tensor("a", "F32", "[3]", "[0, 8]") + "}", 8) == Errc::model_malformed);
    CHECK(code_of("{" + tensor("a", "F32", "[2]", "[0, 18446744073709551615]") + "}", 8) ==
          Errc::model_malformed);
    // Overlap, holes, bytes after the last tensor.
    CHECK(code_of("{" + tensor("a", "F32", "[2]", "[0, 8]") + "," +
                      tensor("b", "F32", "[1]", "[4, 8]") + "}",
                  8) == Errc::model_malformed);
    CHECK(code_of("{" + tensor("a", "F32", "[1]", "[0, 4]") + "," +
                      tensor("b", "F32", "[1]", "[8, 12]") + "}",
                  12) == Errc::model_malformed);
    CHECK(code_of("{" + tensor("a", "F32", "[1]", "[0, 4]") + "}", 5) == Errc::model_malformed);
    CHECK(code_of("{}", 1) == Errc::model_malformed);
    // A size that overflows 64 bits to a small one.
    CHECK(code_of("{" + tensor("a", "F32", "[4294967296, 4294967296]", "[0, 0]") + "}", 0) ==
          Errc::model_malformed);
  }

  TEST_CASE("fields of the wrong kind, doubled, absent or unknown are refused") {
    for (const char* header :
         {"", "[]", "null", "{", "{\"a\": 1}", "{\"a\": {}}", "{\"a\": []}",
          R"({"a": {"dtype": "F32", "shape": [1]}})",
          R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})",
          R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}})",
          R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})",
          R"({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}})",
          R"({"a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]}})",
          R"({"a": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
          R"({"a": {"dtype": "F32", "shape": [1], "shape": [1], "data_offsets": [0, 4]}})",
          R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "extra": 1}})",
          R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} trailing)",
          R"({"__metadata__": {"nested": {}}})",
          R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})"}) {
      CHECK_MESSAGE(code_of(header, 4) == Errc::model_malformed, header);
    }
    const std::string one = tensor("a", "F32", "[1]", "[0, 4]");
    CHECK(code_of("{" + one + "," + tensor("a", "F32", "[0]", "[4, 4]") + "}", 4) ==
          Errc::model_malformed);
    CHECK(code_of("{" + tensor(std::string(2000, 'n'), "F32", "[1]", "[0, 4]") + "}", 4) ==
          Errc::model_malformed);
  }

  TEST_CASE("dtypes we do not know are unsupported, named") {
    const auto parsed =
        parse_safetensors_header("{" + tensor("w", "F8_E4M3", "[4]", "[0, 4]") + "}", 4);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::model_unsupported);
    CHECK(parsed.error().detail.find("F8_E4M3") != std::string::npos);
  }

  TEST_CASE("deep nesting and huge headers end in an error, not in exhausted memory") {
    CHECK(code_of(std::string(10'000'000, '['), 0) == Errc::model_malformed);
    CHECK(code_of("{\"a\": " + std::string(1'000'000, '{'), 0) == Errc::model_malformed);
    CHECK(code_of(std::string(kMaxSafetensorsHeaderBytes + 1, ' '), 0) == Errc::model_malformed);
  }
}

}  // namespace
}  // namespace farmesh::model
