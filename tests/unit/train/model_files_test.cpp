#include "train/model_files.hpp"

#include <cstring>
#include <fstream>
#include <iterator>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace farmesh;
using namespace farmesh::train;

TEST_SUITE("train/model_files") {
  TEST_CASE("a safetensors file says where each tensor lies, and is read back the same") {
    const auto file = std::filesystem::path(FARMESH_BINARY_DIR) / "train_model.test";
    const std::map<std::string, SavedTensor> tensors{{"b", {{2, 3}, {1, 2, 3, 4, 5, 6}}},
                                                     {"a", {{2}, {7, 8}}}};
    REQUIRE(write_safetensors(file, tensors));

    std::ifstream in(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    CHECK(length % 8 == 0);
    CHECK(bytes.size() == 8 + length + 16);
    const auto header = nlohmann::json::parse(bytes.substr(8, length));
    CHECK(header["a"]["data_offsets"] == nlohmann::json({0, 4}));
    CHECK(header["b"]["data_offsets"] == nlohmann::json({4, 16}));
    CHECK(header["b"]["dtype"] == "BF16");
    CHECK(header["b"]["shape"] == nlohmann::json({2, 3}));

    const auto read = read_safetensors(file);
    REQUIRE(read);
    CHECK(read->at("b").values == tensors.at("b").values);
    CHECK(read->at("a").shape == tensors.at("a").shape);

    std::ofstream(file, std::ios::binary) << bytes.substr(0, bytes.size() - 1);
    CHECK_FALSE(read_safetensors(file));
    std::filesystem::remove(file);
  }

  TEST_CASE("a place that cannot be written is an error, not a crash") {
    const auto done = write_text("/no/such/folder/config.json", "{}");
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::io_error);
  }
}
