// docs/wire-protocol.md says what this code does: its example, its verbs and its limits.
#include <fstream>
#include <iterator>
#include <string>

#include <doctest/doctest.h>

#include "unit/wire/samples.hpp"
#include "wire/swarm.hpp"

namespace farmesh::wire {
namespace {

std::string document() {
  std::ifstream in(FARMESH_SOURCE_DIR "/docs/wire-protocol.md");
  return {std::istreambuf_iterator<char>(in), {}};
}

// As `hexdump -C` without the text column.
std::string hex_dump(ByteView bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string dump;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0) {
      if (i > 0) dump += '\n';
      for (int shift = 12; shift >= 0; shift -= 4) dump += digits[i >> shift & 15];
      dump += ' ';
    }
    const auto byte = std::to_integer<unsigned>(bytes[i]);
    dump += ' ';
    dump += digits[byte >> 4];
    dump += digits[byte & 15];
  }
  return dump;
}

// The example of the document: one row of four bf16 values on its way to the second of three
// stages.
Frame example() {
  Step step;
  step.session = test::session_id(0xa0);
  step.epoch = 1;
  step.position = 17;
  step.count = 1;
  step.dtype = DType::bf16;
  step.want = Want::last_row;
  step.budget_ms = 5'000;
  step.route = {{"10.0.0.3:31330", {22, 32}}};
  step.times = {{120, 900, 1}};
  const std::array<std::uint16_t, 4> row = {0x3f80, 0xbf80, 0x4000, 0x0000};  // 1, -1, 2, 0
  Frame frame;
  frame.verb = Verb::step;
  frame.header = encode(step);
  frame.payload = Payload::copy_of(std::as_bytes(std::span(row)));
  return frame;
}

}  // namespace

TEST_SUITE("wire/protocol_document") {
  TEST_CASE("the example frame has the bytes the document shows") {
    const std::string dump = hex_dump(encode_frame(example()));
    CHECK_MESSAGE(document().find(dump) != std::string::npos, "the document lacks\n", dump);
  }

  TEST_CASE("every verb is in the table under its number") {
    const std::string text = document();
    for (int number = 1; number <= 15; ++number) {
      const std::string row = "| " + std::to_string(number) + " | `" +
                              std::string(name(static_cast<Verb>(number))) + "` |";
      CHECK_MESSAGE(text.find(row) != std::string::npos, "no row ", row);
    }
  }

  TEST_CASE("every limit is in the table with its value") {
    const std::string text = document();
    const auto has = [&](const std::string& constant, std::uint64_t value) {
      const std::string row = "| `" + constant + "` | " + std::to_string(value) + " |";
      CHECK_MESSAGE(text.find(row) != std::string::npos, "no row ", row);
    };
    has("kMaxHeaderBytes", kMaxHeaderBytes);
    has("kMaxPayloadBytes", kMaxPayloadBytes);
    has("kMaxTextField", kMaxTextField);
    has("kMaxHops", kMaxHops);
    has("kMaxPageNames", kMaxPageNames);
    has("kMaxPosition", kMaxPosition);
    has("kMaxStepRows", kMaxStepRows);
    has("kMaxLayers", kMaxLayers);
    has("kMaxHiddenSize", kMaxHiddenSize);
    has("kMaxVocabSize", kMaxVocabSize);
    has("kMaxGrantBytes", kMaxGrantBytes);
    has("kMaxJoinBytes", kMaxJoinBytes);
    has("kMaxSwarmRecords", kMaxSwarmRecords);
    has("kMaxSwarmBytes", kMaxSwarmBytes);
    has("kMaxSwarmRecordBytes", kMaxSwarmRecordBytes);
    has("kMaxPeers", kMaxPeers);
    has("kMaxLogitBias", kMaxLogitBias);
    has("kMaxStopTokens", kMaxStopTokens);
    has("kMaxTopTokens", kMaxTopTokens);
  }
}

}  // namespace farmesh::wire
