#include "evm/rlp.hpp"

namespace farmesh::evm {
namespace {

constexpr std::uint8_t kString = 0x80;
constexpr std::uint8_t kList = 0xc0;
constexpr std::size_t kMaxShort = 55;  // above it, the length is a number of its own

Error malformed(const char* why) { return {Errc::evm_encoding_invalid, why}; }

void write_prefix(Bytes& out, std::uint8_t base, std::size_t size) {
  if (size <= kMaxShort) {
    out.push_back(static_cast<std::uint8_t>(base + size));
    return;
  }
  const Bytes length = U256(size).to_minimal_big_endian();
  out.push_back(static_cast<std::uint8_t>(base + kMaxShort + length.size()));
  append(out, length);
}

class Decoder {
 public:
  explicit Decoder(BytesView rest) : rest_(rest) {}

  bool done() const noexcept { return rest_.empty(); }

  Result<RlpItem> item(int depth, std::size_t& budget) {
    if (depth > kMaxRlpDepth) return malformed("RLP nested too deeply");
    if (budget == 0) return malformed("too many RLP items");
    --budget;
    if (rest_.empty()) return malformed("RLP ends too early");
    const std::uint8_t first = rest_[0];
    if (first < kString) return RlpItem{.bytes = take(1)};
    const bool is_list = first >= kList;
    const Result<BytesView> body = content(is_list ? kList : kString);
    if (!body) return body.error();
    if (!is_list) {
      if (body->size() == 1 && body->front() < kString) {
        return malformed("an RLP byte with a needless prefix");
      }
      return RlpItem{.bytes = *body};
    }
    RlpItem list{.is_list = true};
    Decoder inside(*body);
    while (!inside.done()) {
      Result<RlpItem> member = inside.item(depth + 1, budget);
      if (!member) return member;
      list.items.push_back(*std::move(member));
    }
    return list;
  }

 private:
  BytesView take(std::size_t count) {
    const BytesView taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

  // What follows the prefix at the front, whose length must be written in the shortest way.
  Result<BytesView> content(std::uint8_t base) {
    std::size_t size = static_cast<std::size_t>(take(1)[0] - base);
    if (size > kMaxShort) {
      const std::size_t digits = size - kMaxShort;  // 1 to 8
      if (digits > rest_.size()) return malformed("RLP ends too early");
      const BytesView number = take(digits);
      if (number[0] == 0) return malformed("an RLP length with a leading zero");
      size = *U256::from_big_endian(number).to_uint64();
      if (size <= kMaxShort) return malformed("an RLP length that is needlessly long");
    }
    if (size > rest_.size()) return malformed("RLP ends too early");
    return take(size);
  }

  BytesView rest_;
};

}  // namespace

RlpWriter& RlpWriter::bytes(BytesView value) {
  if (value.size() != 1 || value[0] >= kString) write_prefix(out_, kString, value.size());
  append(out_, value);
  return *this;
}

RlpWriter& RlpWriter::number(const U256& value) { return bytes(value.to_minimal_big_endian()); }

RlpWriter& RlpWriter::list(const RlpWriter& items) {
  write_prefix(out_, kList, items.out_.size());
  append(out_, items.out_);
  return *this;
}

Bytes RlpWriter::as_list() const {
  RlpWriter whole;
  whole.list(*this);
  return std::move(whole.out_);
}

Result<U256> RlpItem::number() const {
  if (is_list || bytes.size() > 32) return malformed("not a number in RLP");
  if (!bytes.empty() && bytes[0] == 0) return malformed("an RLP number with a leading zero");
  return U256::from_big_endian(bytes);
}

Result<RlpItem> decode_rlp(BytesView input) {
  Decoder decoder(input);
  std::size_t budget = kMaxRlpItems;
  Result<RlpItem> item = decoder.item(0, budget);
  if (item && !decoder.done()) return malformed("bytes after the RLP item");
  return item;
}

namespace {

void write_item(RlpWriter& to, const RlpItem& item) {
  if (!item.is_list) {
    to.bytes(item.bytes);
    return;
  }
  RlpWriter inside;
  for (const RlpItem& member : item.items) write_item(inside, member);
  to.list(inside);
}

}  // namespace

Bytes encode_rlp(const RlpItem& item) {
  RlpWriter writer;
  write_item(writer, item);
  return writer.items();
}

}  // namespace farmesh::evm
