#include "weights/piece_peers.hpp"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/mapped_file.hpp"
#include "model/manifest.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::weights {
namespace {

using namespace std::chrono_literals;
using farmesh::test::TempDir;

constexpr std::uint64_t kPieceBytes = 16'384;
constexpr const char* kFile = "model.safetensors";

/// A model of five pieces, and a store that wants some of them.
struct Sought {
  Sought() {
    std::string bytes;
    for (std::size_t i = 0; i < 5 * kPieceBytes - 7; ++i) bytes += static_cast<char>(i % 251);
    origin.write("config.json", "{}");
    origin.write(kFile, bytes);
    manifest = *model::make_manifest(origin.path(), {.piece_bytes = kPieceBytes});
    store = *PieceStore::open(cache.path() / "store", kPieceBytes);
    REQUIRE(store->begin(kFile, bytes.size(), ""));
  }

  TempDir origin, cache;
  model::Manifest manifest;
  std::unique_ptr<PieceStore> store;
};

/// Writes what is wanted into the files, as a torrent does.
class Giver final : public PiecePeers {
 public:
  explicit Giver(const Sought& sought) : sought_(sought) {}

  Result<void> open(const std::string& metadata, const std::filesystem::path&,
                    const std::vector<PieceRun>& have,
                    const std::vector<PieceRun>& wanted) override {
    CHECK(model::parse_manifest(metadata));
    had = have;
    wanted_ = wanted;
    return {};
  }
  std::vector<PieceRun> take(std::chrono::milliseconds) override {
    std::vector<PieceRun> came;
    for (const PieceRun& run : std::exchange(wanted_, {})) {
      for (std::size_t piece = run.first; piece < run.end; ++piece) {
        if (piece == lacked) continue;
        give(run.file, piece);
        came.push_back({run.file, piece, piece + 1});
      }
    }
    return came;
  }
  bool has_peers() const override { return !away; }

  bool away = false;
  std::size_t lacked = 100;  // this piece nobody has
  std::size_t wrong = 100;   // this one comes with other bytes
  std::vector<PieceRun> had;

 private:
  void give(const std::string& file, std::size_t piece) {
    std::ifstream in(sought_.origin.path() / file, std::ios::binary);
    std::string bytes(sought_.store->bytes_of(file, piece), '\0');
    in.seekg(static_cast<std::streamoff>(piece * kPieceBytes));
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (piece == wrong) bytes[1] ^= 1;
    std::fstream out(sought_.store->folder() / file,
                     std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(piece * kPieceBytes));
    out << bytes;
  }

  const Sought& sought_;
  std::vector<PieceRun> wanted_;
};

Result<void> fetch(Sought& sought, Giver& giver, const std::vector<PieceRun>& wanted) {
  const PeerPatience hasty{1ms, 1ms};
  return fetch_from_peers(giver, *sought.store, sought.manifest, wanted, {}, hasty);
}

}  // namespace

TEST_SUITE("weights/piece_peers") {
  TEST_CASE("what peers bring is there, marked, and given to others") {
    Sought sought;
    Giver giver(sought);
    REQUIRE(fetch(sought, giver, {{kFile, 1, 3}, {kFile, 4, 5}}));
    CHECK(missing(*sought.store, {{kFile, 1, 3}, {kFile, 4, 5}}).empty());
    CHECK_FALSE(sought.store->has(kFile, 0));
    REQUIRE(giver.had.size() == 2);
    CHECK(giver.had[0].first == 1);
    CHECK(giver.had[0].end == 3);
    const auto again = PieceStore::open(sought.store->folder(), kPieceBytes);
    CHECK((*again)->has(kFile, 4));
  }

  TEST_CASE("what nobody has, and what has other bytes, is lacking and no failure") {
    Sought sought;
    Giver giver(sought);
    giver.lacked = 2;
    giver.wrong = 3;
    REQUIRE(fetch(sought, giver, {{kFile, 0, 5}}));
    const std::vector<PieceRun> left = missing(*sought.store, {{kFile, 0, 5}});
    REQUIRE(left.size() == 1);
    CHECK(left[0].first == 2);
    CHECK(left[0].end == 4);
  }

  TEST_CASE("nobody is waited for without end") {
    Sought sought;
    Giver giver(sought);
    giver.away = true;
    giver.lacked = 0;
    REQUIRE(fetch(sought, giver, {{kFile, 0, 1}}));
    CHECK_FALSE(sought.store->has(kFile, 0));
  }
}

}  // namespace farmesh::weights
