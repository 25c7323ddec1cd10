#include "model/bencode.hpp"

#include <charconv>

namespace farmesh::model {
namespace {

constexpr int kMaxDepth = 32;

}  // namespace

void BencodeReader::expect(char c) {
  if (peek() != c) return fail();
  rest_.remove_prefix(1);
}

std::uint64_t BencodeReader::digits(char terminator) {
  std::uint64_t value = 0;
  const char* const begin = rest_.data();
  const char* const end = begin + rest_.size();
  const auto [stopped, failure] = std::from_chars(begin, end, value);
  const bool leading_zero = stopped - begin > 1 && *begin == '0';
  if (!ok_ || failure != std::errc() || stopped == end || *stopped != terminator || leading_zero) {
    fail();
    return 0;
  }
  rest_.remove_prefix(static_cast<std::size_t>(stopped - begin) + 1);
  return value;
}

std::string_view BencodeReader::text() {
  const std::uint64_t length = digits(':');
  if (!ok_ || length > rest_.size()) {
    fail();
    return {};
  }
  const std::string_view value = rest_.substr(0, length);
  rest_.remove_prefix(length);
  return value;
}

std::uint64_t BencodeReader::number() {
  expect('i');
  return digits('e');
}

bool BencodeReader::end() {
  if (!ok_) return true;
  if (peek() != 'e') return false;
  rest_.remove_prefix(1);
  return true;
}

std::string_view BencodeReader::key(std::string_view previous) {
  const bool first = previous.data() == nullptr;
  const std::string_view key = text();
  if (ok_ && !first && key <= previous) fail();
  return key;
}

void BencodeReader::skip(int depth) {
  if (depth > kMaxDepth) return fail();
  const char kind = peek();
  if (kind == 'i') {
    rest_.remove_prefix(1);
    if (peek() == '-') rest_.remove_prefix(1);
    digits('e');
  } else if (kind == 'l' || kind == 'd') {
    rest_.remove_prefix(1);
    while (!end()) {
      if (kind == 'd') text();
      skip(depth + 1);
    }
  } else {
    text();
  }
}

void append_bencoded(std::string& out, std::string_view text) {
  out += std::to_string(text.size());
  out += ':';
  out += text;
}

void append_bencoded(std::string& out, std::uint64_t number) {
  out += 'i';
  out += std::to_string(number);
  out += 'e';
}

}  // namespace farmesh::model
