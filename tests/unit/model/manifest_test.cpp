#include "model/manifest.hpp"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "model/merkle.hpp"
#include "model/model_hash.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::model {
namespace {

using farmesh::test::TempDir;

std::string weights(std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(i % 251);
  return bytes;
}

void write_model(const TempDir& folder) {
  folder.write("config.json", "{}");
  folder.write("merges.txt", "");
  folder.write("tokenizer.json", std::string(16384, 'a'));
  folder.write("model-00001-of-00002.safetensors", weights(5 * 16384 + 1));
  folder.write("model-00002-of-00002.safetensors", weights(32768));
  folder.write("README.md", "not of the model");
}

Manifest made(const TempDir& folder, std::uint64_t piece_bytes = 32768) {
  ManifestOptions options;
  options.piece_bytes = piece_bytes;
  options.web_seeds = {"https://hub.example/org/name/resolve/"};
  const Result<Manifest> manifest = make_manifest(folder.path(), options);
  REQUIRE_MESSAGE(manifest, manifest.error().to_string());
  return *manifest;
}

std::string replaced(std::string text, std::string_view old, std::string_view with) {
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), with);
}

Errc refusal(const std::string& bytes) {
  const Result<Manifest> parsed = parse_manifest(bytes);
  return parsed ? Errc::ok : parsed.error().code;
}

TEST_SUITE("model/manifest") {
  TEST_CASE("a manifest's tree is the model hash, whatever the piece size") {
    const TempDir folder;
    write_model(folder);
    const Result<ModelHash> hash = model_hash(folder.path());
    REQUIRE(hash);
    for (const std::uint64_t piece_bytes : {16384, 32768, 65536, 1 << 20}) {
      const Manifest manifest = made(folder, piece_bytes);
      CHECK(manifest.model_hash() == *hash);
      CHECK(manifest.files.size() == 5);
      CHECK(manifest.find("README.md") == nullptr);
    }
  }

  TEST_CASE("a manifest goes to bytes and back") {
    const TempDir folder;
    write_model(folder);
    const Manifest manifest = made(folder);
    const Result<Manifest> again = parse_manifest(manifest.encode());
    REQUIRE_MESSAGE(again, again.error().to_string());
    CHECK(again->model_hash() == manifest.model_hash());
    CHECK(again->info_hash() == manifest.info_hash());
    CHECK(again->web_seeds == manifest.web_seeds);
    CHECK(again->encode() == manifest.encode());
    CHECK(manifest.magnet().size() == std::string("magnet:?xt=urn:btmh:1220").size() + 64);
  }

  TEST_CASE("every piece of every file is proven by itself, and no other bytes are") {
    const TempDir folder;
    write_model(folder);
    const Manifest manifest = made(folder);
    for (const ManifestFile& file : manifest.files) {
      const Result<MappedFile> mapped = MappedFile::open(folder.path() / file.name);
      REQUIRE(mapped);
      for (std::size_t i = 0; i < file.pieces.size(); ++i) {
        const std::uint64_t begin = i * manifest.piece_bytes;
        const std::uint64_t size = std::min(manifest.piece_bytes, file.length - begin);
        const ByteView piece = mapped->bytes().subspan(begin, size);
        CHECK(manifest.proves(file, i, piece));
        CHECK_FALSE(manifest.proves(file, i, piece.first(size - 1)));
        CHECK_FALSE(manifest.proves(file, i + 1, piece));
        std::string changed(reinterpret_cast<const char*>(piece.data()), size);
        changed.back() = static_cast<char>(changed.back() ^ 1);
        CHECK_FALSE(manifest.proves(file, i, as_view(changed)));
      }
    }
  }

  TEST_CASE("what is cut, damaged or leads out of the folder is refused") {
    const TempDir folder;
    write_model(folder);
    const std::string whole = made(folder).encode();
    CHECK(refusal(whole) == Errc::ok);
    for (std::size_t size = 0; size < whole.size(); size += 7) {
      CHECK(refusal(whole.substr(0, size)) == Errc::model_malformed);
    }
    CHECK(refusal(whole + "e") == Errc::model_malformed);
    CHECK(refusal(replaced(whole, "10:merges.txt", "10:../es.txt")) == Errc::model_malformed);
    CHECK(refusal(replaced(whole, "11:config.json", "11:config.jsom")) == Errc::model_malformed);
    CHECK(refusal(replaced(whole, "meta versioni2e", "meta versioni1e")) == Errc::model_malformed);
    CHECK(refusal(replaced(whole, "lengthi32768e", "lengthi32769e")) == Errc::model_malformed);
    CHECK(refusal(replaced(whole, "lengthi0e", "lengthi-1e")) == Errc::model_malformed);
    // The hashes of the pieces follow "piece layers": another one is not below the root.
    std::string lying = whole;
    lying[whole.find("piece layers") + 60] ^= 1;
    CHECK(refusal(lying) == Errc::model_malformed);
  }

  TEST_CASE("what nobody knows is passed over, outside the tree") {
    const TempDir folder;
    write_model(folder);
    const Manifest manifest = made(folder);
    const std::string more =
        "d7:comment4:text13:creation datei1700000000e" + manifest.encode().substr(1);
    const Result<Manifest> parsed = parse_manifest(more);
    REQUIRE(parsed);
    CHECK(parsed->info_hash() == manifest.info_hash());
    const std::string deep =
        "d1:a" + std::string(100, 'l') + std::string(100, 'e') + manifest.encode().substr(1);
    CHECK(refusal(deep) == Errc::model_malformed);
  }

  TEST_CASE("a piece size that cannot be, or a folder without a model, is refused") {
    const TempDir folder, empty;
    write_model(folder);
    ManifestOptions options;
    options.piece_bytes = 20'000;
    CHECK(make_manifest(folder.path(), options).error().code == Errc::invalid_argument);
    CHECK(make_manifest(empty.path(), {}).error().code == Errc::model_not_found);
    CHECK(make_manifest(empty.path() / "absent", {}).error().code == Errc::model_not_found);
  }
}

}  // namespace
}  // namespace farmesh::model
