#include "evm/abi.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "base/assert.hpp"
#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

using Kind = AbiType::Kind;
constexpr std::size_t kWord = 32;
constexpr std::size_t kMaxFixedArray = 4'096;
constexpr std::size_t kMaxStaticBytes = 1 << 24;  // of a type without tails
constexpr std::size_t kMaxTypeText = 4'096;

Error malformed(const char* why) { return {Errc::evm_encoding_invalid, why}; }

// --- types -------------------------------------------------------------------------------------

// The members of a tuple or an array, however many an array has.
const AbiType& member_type(const AbiType& type, std::size_t index) {
  return type.kind == Kind::tuple ? type.members[index] : type.members[0];
}

std::size_t head_size(const AbiType& type) {
  if (type.is_dynamic()) return kWord;
  if (type.kind == Kind::array) return type.size * head_size(type.members[0]);
  if (type.kind != Kind::tuple) return kWord;
  std::size_t size = 0;
  for (const AbiType& member : type.members) size += head_size(member);
  return size;
}

class TypeParser {
 public:
  explicit TypeParser(std::string_view text) : rest_(text) {}

  std::optional<AbiType> type(int depth) {
    if (depth > kMaxAbiDepth) return std::nullopt;
    std::optional<AbiType> parsed = rest_.starts_with('(') ? tuple(depth) : word();
    while (parsed && rest_.starts_with('[')) {
      if (++depth > kMaxAbiDepth) return std::nullopt;
      parsed = array_of(*std::move(parsed));
    }
    return parsed;
  }
  bool done() const noexcept { return rest_.empty(); }

 private:
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::optional<AbiType> tuple(int depth) {
    AbiType type{.kind = Kind::tuple};
    take('(');
    if (take(')')) return depth == 0 ? std::optional(type) : std::nullopt;  // a call without any
    do {
      std::optional<AbiType> member = this->type(depth + 1);
      if (!member) return std::nullopt;
      type.members.push_back(*std::move(member));
    } while (take(','));
    if (!take(')')) return std::nullopt;
    return type;
  }

  std::optional<AbiType> array_of(AbiType element) {
    if (element.kind == Kind::tuple && element.members.empty()) return std::nullopt;
    AbiType type{.kind = Kind::array};
    type.members.push_back(std::move(element));
    take('[');
    if (!take(']')) {
      const std::optional<std::size_t> size = number(kMaxFixedArray);
      if (!size || !take(']')) return std::nullopt;
      if (head_size(type.members[0]) > kMaxStaticBytes / *size) return std::nullopt;
      type.size = *size;
    }
    return type;
  }

  std::optional<AbiType> word() {
    const auto named = [this](std::string_view name) {
      if (!rest_.starts_with(name)) return false;
      rest_.remove_prefix(name.size());
      return true;
    };
    if (named("address")) return AbiType{.kind = Kind::address};
    if (named("bool")) return AbiType{.kind = Kind::boolean};
    if (named("string")) return AbiType{.kind = Kind::string};
    if (named("uint")) {
      const std::optional<std::size_t> bits = number(256);
      if (!bits || *bits % 8 != 0) return std::nullopt;
      return AbiType{.kind = Kind::uint, .size = *bits};
    }
    if (!named("bytes")) return std::nullopt;
    if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') return AbiType{.kind = Kind::bytes};
    const std::optional<std::size_t> size = number(32);
    if (!size) return std::nullopt;
    return AbiType{.kind = Kind::fixed_bytes, .size = *size};
  }

  // From 1 to `most`, without leading zeros.
  std::optional<std::size_t> number(std::size_t most) {
    std::size_t value = 0;
    const char* const end = rest_.data() + rest_.size();
    const auto [stop, failure] = std::from_chars(rest_.data(), end, value);
    if (failure != std::errc() || rest_[0] == '0' || value == 0 || value > most) {
      return std::nullopt;
    }
    rest_.remove_prefix(static_cast<std::size_t>(stop - rest_.data()));
    return value;
  }

  std::string_view rest_;
};

// --- encoding ----------------------------------------------------------------------------------

void append_word(Bytes& out, const U256& value) { append(out, value.to_big_endian()); }

void append_padded(Bytes& out, BytesView bytes) {
  append(out, bytes);
  out.resize(out.size() + (kWord - bytes.size() % kWord) % kWord);
}

bool encode_value(Bytes& out, const AbiType& type, const AbiValue& value);

// Heads first: static members in place, dynamic ones as offsets of their tails, which follow.
bool encode_members(Bytes& out, const AbiType& type, const AbiValue::Members& values) {
  std::size_t offset = 0;
  for (std::size_t i = 0; i < values.size(); ++i) offset += head_size(member_type(type, i));
  Bytes tails;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const AbiType& member = member_type(type, i);
    if (!member.is_dynamic()) {
      if (!encode_value(out, member, values[i])) return false;
      continue;
    }
    append_word(out, offset + tails.size());
    if (!encode_value(tails, member, values[i])) return false;
  }
  append(out, tails);
  return true;
}

bool encode_word(Bytes& out, const AbiType& type, const AbiValue& value) {
  if (type.kind == Kind::address) {
    const Address* address = std::get_if<Address>(&value.value);
    if (address == nullptr) return false;
    out.resize(out.size() + kWord - address->bytes.size());
    append(out, address->bytes);
    return true;
  }
  if (type.kind == Kind::fixed_bytes) {
    const Bytes* bytes = std::get_if<Bytes>(&value.value);
    if (bytes == nullptr || bytes->size() != type.size) return false;
    append_padded(out, *bytes);
    return true;
  }
  const U256* number = std::get_if<U256>(&value.value);
  const int most_bits = type.kind == Kind::boolean ? 1 : static_cast<int>(type.size);
  if (number == nullptr || number->bit_length() > most_bits) return false;
  append_word(out, *number);
  return true;
}

bool encode_value(Bytes& out, const AbiType& type, const AbiValue& value) {
  switch (type.kind) {
    case Kind::uint:
    case Kind::boolean:
    case Kind::address:
    case Kind::fixed_bytes: return encode_word(out, type, value);
    case Kind::bytes: {
      const Bytes* bytes = std::get_if<Bytes>(&value.value);
      if (bytes == nullptr) return false;
      append_word(out, bytes->size());
      append_padded(out, *bytes);
      return true;
    }
    case Kind::string: {
      const std::string* text = std::get_if<std::string>(&value.value);
      if (text == nullptr) return false;
      append_word(out, text->size());
      append_padded(out, view_of(*text));
      return true;
    }
    case Kind::array:
    case Kind::tuple: break;
  }
  const AbiValue::Members* members = std::get_if<AbiValue::Members>(&value.value);
  if (members == nullptr) return false;
  const std::size_t fixed = type.kind == Kind::tuple ? type.members.size() : type.size;
  if (type.kind == Kind::array && type.size == 0) {
    append_word(out, members->size());
  } else if (members->size() != fixed) {
    return false;
  }
  return encode_members(out, type, *members);
}

// --- decoding ----------------------------------------------------------------------------------

/// Reads heads and tails of one enclosing tuple or array: offsets count from its start.
class Decoder {
 public:
  explicit Decoder(BytesView data) : data_(data) {}

  // `count` members that begin at the start of the data. Gives the bytes they took.
  Result<std::size_t> members(const AbiType& type, std::size_t count, AbiValue::Members& out) {
    std::size_t heads = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t head = head_size(member_type(type, i));
      if (head > data_.size() - heads) return malformed("ABI data ends too early");
      heads += head;
    }
    out.reserve(count);
    std::size_t tail = heads;
    std::size_t head = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const AbiType& member = member_type(type, i);
      Result<Read> read =
          member.is_dynamic() ? from_tail(member, head, tail) : value(member, data_.subspan(head));
      if (!read) return std::move(read).error();
      head += head_size(member);
      if (member.is_dynamic()) tail += read->size;
      out.push_back(std::move(read->value));
    }
    return tail;
  }

 private:
  struct Read {
    AbiValue value;
    std::size_t size = 0;
  };

  // The tails stand in the order of their heads, without gaps: so the offset is known beforehand.
  Result<Read> from_tail(const AbiType& type, std::size_t head, std::size_t tail) {
    if (U256::from_big_endian(data_.subspan(head, kWord)) != U256(tail)) {
      return malformed("an ABI offset that is not the next tail's");
    }
    return value(type, data_.subspan(tail));
  }

  static Result<Read> value(const AbiType& type, BytesView data) {
    switch (type.kind) {
      case Kind::uint:
      case Kind::boolean:
      case Kind::address:
      case Kind::fixed_bytes: return word(type, data);
      case Kind::bytes:
      case Kind::string: return byte_string(type, data);
      case Kind::array:
      case Kind::tuple: break;
    }
    std::size_t count = type.kind == Kind::tuple ? type.members.size() : type.size;
    std::size_t before = 0;
    if (type.kind == Kind::array && type.size == 0) {
      const std::optional<std::size_t> length = length_at(data);
      // Every element takes a word at least, so no count can ask for more memory than came in.
      if (!length || *length > (data.size() - kWord) / kWord) {
        return malformed("an ABI array longer than its data");
      }
      count = *length;
      before = kWord;
    }
    AbiValue::Members out;
    Result<std::size_t> size = Decoder(data.subspan(before)).members(type, count, out);
    if (!size) return size.error();
    return Read{AbiValue(std::move(out)), before + *size};
  }

  static Result<Read> word(const AbiType& type, BytesView data) {
    if (data.size() < kWord) return malformed("ABI data ends too early");
    data = data.first(kWord);
    if (type.kind == Kind::fixed_bytes) {
      if (!is_zero(data.subspan(type.size))) return malformed("ABI padding that is not zero");
      return Read{AbiValue(Bytes(data.begin(), data.begin() + static_cast<long>(type.size))),
                  kWord};
    }
    if (type.kind == Kind::address) {
      Address address;
      const std::size_t padding = kWord - address.bytes.size();
      if (!is_zero(data.first(padding))) return malformed("ABI padding that is not zero");
      std::ranges::copy(data.subspan(padding), address.bytes.begin());
      return Read{AbiValue(address), kWord};
    }
    const U256 number = U256::from_big_endian(data);
    const int most_bits = type.kind == Kind::boolean ? 1 : static_cast<int>(type.size);
    if (number.bit_length() > most_bits) return malformed("an ABI number beyond its type");
    return Read{AbiValue(number), kWord};
  }

  static Result<Read> byte_string(const AbiType& type, BytesView data) {
    const std::optional<std::size_t> length = length_at(data);
    if (!length) return malformed("ABI bytes longer than their data");
    const std::size_t padded = (*length + kWord - 1) / kWord * kWord;
    if (padded > data.size() - kWord) return malformed("ABI bytes longer than their data");
    const BytesView content = data.subspan(kWord, *length);
    if (!is_zero(data.subspan(kWord + *length, padded - *length))) {
      return malformed("ABI padding that is not zero");
    }
    const std::size_t size = kWord + padded;
    if (type.kind == Kind::bytes) {
      return Read{AbiValue(Bytes(content.begin(), content.end())), size};
    }
    return Read{AbiValue(std::string(content.begin(), content.end())), size};
  }

  // A length at the start of `data`, no larger than it.
  static std::optional<std::size_t> length_at(BytesView data) {
    if (data.size() < kWord) return std::nullopt;
    const std::optional<std::uint64_t> length =
        U256::from_big_endian(data.first(kWord)).to_uint64();
    if (!length || *length > data.size() - kWord) return std::nullopt;
    return static_cast<std::size_t>(*length);
  }

  static bool is_zero(BytesView bytes) {
    return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
  }

  BytesView data_;
};

AbiType parsed(std::string_view tuple) {
  Result<AbiType> type = AbiType::parse(tuple);
  FARMESH_ASSERT(type && type->kind == Kind::tuple);
  return *std::move(type);
}

}  // namespace

Result<AbiType> AbiType::parse(std::string_view text) {
  if (text.size() > kMaxTypeText) return malformed("an ABI type of too many characters");
  TypeParser parser(text);
  std::optional<AbiType> type = parser.type(0);
  if (!type || !parser.done()) return malformed("not an ABI type that we know");
  return *std::move(type);
}

bool AbiType::is_dynamic() const noexcept {
  switch (kind) {
    case Kind::uint:
    case Kind::boolean:
    case Kind::address:
    case Kind::fixed_bytes: return false;
    case Kind::bytes:
    case Kind::string: return true;
    case Kind::array: return size == 0 || members[0].is_dynamic();
    case Kind::tuple:
      return std::ranges::any_of(members, [](const AbiType& m) { return m.is_dynamic(); });
  }
  return false;
}

Bytes32 AbiValue::word() const {
  FARMESH_ASSERT(bytes().size() == kWord);
  Bytes32 copy{};
  std::ranges::copy(bytes(), copy.begin());
  return copy;
}

Selector selector(std::string_view signature) {
  const Bytes32 hash = keccak256(signature);
  return {hash[0], hash[1], hash[2], hash[3]};
}

Bytes32 event_topic(std::string_view signature) { return keccak256(signature); }

Result<Bytes> encode_abi(const AbiType& tuple, const AbiValue::Members& values) {
  FARMESH_ASSERT(tuple.kind == Kind::tuple);
  Bytes out;
  if (values.size() != tuple.members.size() || !encode_members(out, tuple, values)) {
    return malformed("a value that does not fit its ABI type");
  }
  return out;
}

Result<AbiValue::Members> decode_abi(const AbiType& tuple, BytesView data) {
  FARMESH_ASSERT(tuple.kind == Kind::tuple);
  AbiValue::Members values;
  const Result<std::size_t> size = Decoder(data).members(tuple, tuple.members.size(), values);
  if (!size) return size.error();
  if (*size != data.size()) return malformed("bytes after the ABI data");
  return values;
}

Result<Bytes> encode_abi(std::string_view tuple, const AbiValue::Members& values) {
  return encode_abi(parsed(tuple), values);
}

Result<AbiValue::Members> decode_abi(std::string_view tuple, BytesView data) {
  return decode_abi(parsed(tuple), data);
}

Result<Bytes> encode_call(std::string_view signature, const AbiValue::Members& values) {
  const std::size_t arguments = signature.find('(');
  FARMESH_ASSERT(arguments != std::string_view::npos);
  const Result<Bytes> encoded = encode_abi(signature.substr(arguments), values);
  if (!encoded) return encoded;
  const Selector first = selector(signature);
  Bytes data(first.begin(), first.end());
  append(data, *encoded);
  return data;
}

}  // namespace farmesh::evm
