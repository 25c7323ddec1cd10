#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "model/model_folder.hpp"
#include "model/synth.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::model {
namespace {

using farmesh::test::TempDir;

std::string length_prefix(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes;
}

std::string safetensors(const std::string& header, const std::string& data) {
  return length_prefix(header.size()) + header + data;
}

void write_tiny(const TempDir& folder, std::uint64_t shard_bytes = 4'000'000'000) {
  SynthOptions options;
  options.shard_bytes = shard_bytes;
  REQUIRE(write_synthetic_model(folder.path(), options));
}

Errc open_code(const TempDir& folder) {
  const auto opened = ModelFolder::open(folder.path());
  return opened ? Errc::ok : opened.error().code;
}

TEST_SUITE("model/folder") {
  TEST_CASE("a synthetic model opens, and its tensors fit its config") {
    const TempDir folder;
    write_tiny(folder);
    const auto opened = ModelFolder::open(folder.path());
    REQUIRE(opened);
    const ModelFolder& model = **opened;
    CHECK(model.config().num_layers == 2);
    CHECK(model.path() == folder.path());
    CHECK(model.check_tensors({0, 2}, true));
    CHECK(model.tensors().size() == 21);
    const auto norm = model.find("model.norm.weight");
    REQUIRE(norm);
    CHECK(norm->shape == std::vector<std::uint64_t>{32});
    CHECK(norm->bytes.size() == 64);
    std::uint16_t one = 0;
    std::memcpy(&one, norm->bytes.data(), 2);
    CHECK(one == 0x3f80);
    model.release("model.norm.weight");
    CHECK(norm->bytes[1] == std::byte{0x3f});  // comes back when touched
    CHECK(model.find("model.layers.2.mlp.up_proj.weight").error().code == Errc::config_mismatch);
  }

  TEST_CASE("shards hold the same bytes as one file") {
    const TempDir whole, cut;
    write_tiny(whole);
    write_tiny(cut, 30000);
    CHECK(std::filesystem::exists(cut.path() / "model-00002-of-00004.safetensors"));
    const auto a = ModelFolder::open(whole.path());
    const auto b = ModelFolder::open(cut.path());
    REQUIRE((a && b));
    for (const SafetensorsEntry& entry : (*a)->tensors()) {
      const ByteView x = (*a)->find(entry.name)->bytes;
      const ByteView y = (*b)->find(entry.name)->bytes;
      CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
    }
  }

  TEST_CASE("an absent file is named") {
    const TempDir folder;
    CHECK(open_code(folder) == Errc::model_not_found);
    write_tiny(folder);
    std::filesystem::remove(folder.path() / "model.safetensors");
    const auto opened = ModelFolder::open(folder.path());
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::model_not_found);
    CHECK(opened.error().detail.find("model.safetensors") != std::string::npos);
  }

  TEST_CASE("a config without weights can be read alone") {
    const TempDir folder;
    write_tiny(folder);
    std::filesystem::remove(folder.path() / "model.safetensors");
    folder.write("generation_config.json", R"({"eos_token_id": [2, 7, 7, 99999, "x"]})");
    const auto config = read_model_config(folder.path());
    REQUIRE(config);
    CHECK(config->eos_tokens == std::vector<TokenId>{2, 7});
    folder.write("generation_config.json", "[");
    CHECK(read_model_config(folder.path()).error().code == Errc::model_malformed);
  }

  TEST_CASE("truncated and lying weight files are malformed") {
    const TempDir folder;
    write_tiny(folder);
    std::ifstream in(folder.path() / "model.safetensors", std::ios::binary);
    const std::string good{std::istreambuf_iterator<char>(in), {}};
    for (const std::size_t size : {0, 1, 7, 8, 9, 500, static_cast<int>(good.size()) - 1}) {
      folder.write("model.safetensors", good.substr(0, size));
      CHECK_MESSAGE(open_code(folder) == Errc::model_malformed, size << " bytes");
    }
    folder.write("model.safetensors", good + "x");
    CHECK(open_code(folder) == Errc::model_malformed);
    for (const std::uint64_t length :
         {std::uint64_t{0}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
      folder.write("model.safetensors", length_prefix(length) + good.substr(8));
      CHECK(open_code(folder) == Errc::model_malformed);
    }
    folder.write("model.safetensors", good);
    CHECK(open_code(folder) == Errc::ok);
  }

  TEST_CASE("tensors that contradict the config are found before anything is computed") {
    const TempDir folder;
    write_tiny(folder);
    folder.write("model.safetensors",
                 safetensors(R"({"model.norm.weight": {"dtype": "BF16", "shape": [31],)"
                             R"( "data_offsets": [0, 62]}})",
                             std::string(62, 'x')));
    const auto opened = ModelFolder::open(folder.path());
    REQUIRE(opened);
    CHECK((*opened)->check_tensors({}, false));
    CHECK((*opened)->check_tensors({}, true).error().code == Errc::config_mismatch);
    CHECK((*opened)->check_tensors({0, 1}, false).error().detail.find("layers.0") !=
          std::string::npos);
  }

  TEST_CASE("an index must name files of its own folder that hold what it says") {
    const TempDir folder;
    write_tiny(folder, 30000);
    REQUIRE(open_code(folder) == Errc::ok);
    const auto index = [&](const std::string& text) {
      folder.write("model.safetensors.index.json", text);
      return open_code(folder);
    };
    CHECK(index("{") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": []})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": 1}})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": "../secret.safetensors"}})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": "/etc/passwd"}})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": ".."}})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": ""}})") == Errc::model_malformed);
    CHECK(index(R"({"weight_map": {"a": "absent.safetensors"}})") == Errc::model_not_found);
    CHECK(index(R"({"weight_map": {"a": "model-00001-of-00004.safetensors"}})") ==
          Errc::model_malformed);
  }

  TEST_CASE("synthetic models are the same for equal seeds, in every dtype and shape of file") {
    const TempDir a, b, c;
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SynthOptions options;
      options.dtype = dtype;
      REQUIRE(write_synthetic_model(a.path(), options));
      REQUIRE(write_synthetic_model(b.path(), options));
      options.seed = 2;
      std::uint64_t written = 0, total = 0;
      options.on_progress = [&](std::uint64_t done, std::uint64_t all) {
        CHECK(done >= written);
        written = done;
        total = all;
      };
      REQUIRE(write_synthetic_model(c.path(), options));
      CHECK((written == total && total > 0));
      const char* name = "model.layers.0.mlp.up_proj.weight";
      const auto bytes = [&](const TempDir& folder) {
        const auto opened = ModelFolder::open(folder.path());
        REQUIRE(opened);
        CHECK((*opened)->config().file_dtype == dtype);
        const ByteView view = (*opened)->find(name)->bytes;
        return std::vector<std::byte>(view.begin(), view.end());
      };
      CHECK(bytes(a) == bytes(b));
      CHECK(bytes(a) != bytes(c));
    }
    SynthOptions unknown;
    unknown.shape = "huge";
    CHECK(write_synthetic_model(a.path(), unknown).error().code == Errc::invalid_argument);
    CHECK(write_synthetic_model("/proc/nowhere", {}).error().code == Errc::io_error);
  }
}

}  // namespace
}  // namespace farmesh::model
