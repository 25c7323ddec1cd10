#include "model/stand_in_engine.hpp"

#include <cstring>
#include <utility>
#include <vector>

#include "base/assert.hpp"

namespace farmesh::model {
namespace {

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every
/// output bit, so one stale cache row cannot cancel out.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Uniform in [-1, 1), a multiple of 2^-23: exact in f32.
constexpr float to_float(std::uint64_t word) noexcept {
  return static_cast<float>(static_cast<std::int32_t>(word >> 40) - (1 << 23)) * 0x1p-23f;
}

constexpr TokenId kSpecialTokens = 3;  // never the likeliest
constexpr float kLogitRange = 8.0f;    // ordinary tokens get [-8, 8)
constexpr float kSpecialLogit = -30.0f;

// One word in the cache stands for K and V of one row in one layer.
class StandInEngine final : public StageEngine {
 public:
  explicit StandInEngine(const StandInOptions& options) : seed_(mix(options.seed)) {
    FARMESH_ASSERT(options.page_tokens > 0 && options.hidden_size > 0);
    FARMESH_ASSERT(options.vocab_size > kSpecialTokens);
    info_.blocks = options.blocks;
    info_.head = options.head;
    info_.residual = DType::f32;
    info_.hidden_size = options.hidden_size;
    info_.vocab_size = options.vocab_size;
    info_.page_tokens = options.page_tokens;
    info_.page_bytes = page_words() * sizeof(std::uint64_t);
    info_.numerics_class = "f32/stand-in";
  }

  const EngineInfo& info() const noexcept override { return info_; }

  Result<void> reserve_pages(std::uint32_t count) override {
    FARMESH_ASSERT(cache_.empty());
    // Whatever was in memory: a session must never read what it has not written.
    cache_.assign(count * page_words(), 0xDEADBEEFDEADBEEFu);
    return {};
  }

  Result<void> forward(Span blocks, std::span<const SequenceRows> batch) override {
    if (blocks.empty() || !info_.blocks.contains(blocks)) {
      return {Errc::compute_failed, "layers that this engine does not hold"};
    }
    for (const SequenceRows& sequence : batch) {
      FARMESH_ASSERT(sequence.input.size() == sequence.rows * row_bytes());
      FARMESH_ASSERT(sequence.output.size() == sequence.input.size());
      FARMESH_ASSERT(sequence.pages.size() * info_.page_tokens >=
                     sequence.position + sequence.rows);
      std::memcpy(sequence.output.data(), sequence.input.data(), sequence.input.size());
      for (std::uint32_t layer = blocks.begin; layer < blocks.end; ++layer) run(layer, sequence);
    }
    return {};
  }

  Result<void> copy_page(std::uint32_t from, std::uint32_t to) override {
    std::memcpy(&cache_.at(to * page_words()), &cache_.at(from * page_words()), info_.page_bytes);
    return {};
  }

  Result<void> embed(std::span<const TokenId> ids, MutableByteView hidden) override {
    FARMESH_ASSERT(hidden.size() == ids.size() * row_bytes());
    for (const TokenId id : ids) {
      if (id >= info_.vocab_size) return {Errc::bad_payload, "token id outside the vocabulary"};
    }
    for (std::size_t i = 0; i < ids.size(); ++i) {
      fill_row(mix(seed_ ^ ids[i]), hidden.subspan(i * row_bytes(), row_bytes()));
    }
    return {};
  }

  Result<void> logits(ByteView hidden, std::uint32_t rows, std::span<float> logits) override {
    FARMESH_ASSERT(hidden.size() == rows * row_bytes());
    FARMESH_ASSERT(logits.size() == std::size_t{rows} * info_.vocab_size);
    for (std::uint32_t row = 0; row < rows; ++row) {
      const std::uint64_t state = digest(hidden.subspan(row * row_bytes(), row_bytes()), seed_);
      const auto out = logits.subspan(std::size_t{row} * info_.vocab_size, info_.vocab_size);
      for (TokenId id = 0; id < info_.vocab_size; ++id) {
        out[id] = id < kSpecialTokens ? kSpecialLogit : kLogitRange * to_float(mix(state ^ id));
      }
    }
    return {};
  }

 private:
  std::size_t row_bytes() const noexcept { return info_.hidden_size * sizeof(float); }
  std::size_t page_words() const noexcept {
    return std::size_t{info_.page_tokens} * info_.blocks.size();
  }

  /// The cache word of one position and layer.
  std::uint64_t& cell(const SequenceRows& sequence, std::uint32_t position, std::uint32_t layer) {
    const std::uint32_t page = sequence.pages[position / info_.page_tokens];
    const std::uint32_t slot = position % info_.page_tokens;
    return cache_.at(page * page_words() + std::size_t{slot} * info_.blocks.size() + layer -
                     info_.blocks.begin);
  }

  /// One layer over one sequence, in place in its output.
  void run(std::uint32_t layer, const SequenceRows& sequence) {
    const std::uint64_t weights = mix(seed_ + layer);
    std::uint64_t seen = 0;  // what attention would read: all cache words up to the row
    for (std::uint32_t q = 0; q < sequence.position; ++q) {
      seen += mix(cell(sequence, q, layer) ^ q);
    }
    for (std::uint32_t row = 0; row < sequence.rows; ++row) {
      const std::uint32_t position = sequence.position + row;
      const MutableByteView bytes = sequence.output.subspan(row * row_bytes(), row_bytes());
      const std::uint64_t own = digest(bytes, weights ^ position);
      cell(sequence, position, layer) = own;
      seen += mix(own ^ position);
      fill_row(mix(seen ^ weights), bytes);
    }
  }

  static std::uint64_t digest(ByteView row, std::uint64_t start) noexcept {
    std::uint64_t state = start;
    for (std::size_t i = 0; i < row.size(); i += sizeof(float)) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, row.data() + i, sizeof bits);
      state = mix(state ^ bits);
    }
    return state;
  }

  static void fill_row(std::uint64_t state, MutableByteView row) noexcept {
    for (std::size_t i = 0; i < row.size(); i += sizeof(float)) {
      const float value = to_float(mix(state + i));
      std::memcpy(row.data() + i, &value, sizeof value);
    }
  }

  EngineInfo info_;
  std::uint64_t seed_;
  std::vector<std::uint64_t> cache_;  // [pages, page_tokens, layers]
};

}  // namespace

std::unique_ptr<StageEngine> make_stand_in_engine(const StandInOptions& options) {
  return std::make_unique<StandInEngine>(options);
}

}  // namespace farmesh::model
