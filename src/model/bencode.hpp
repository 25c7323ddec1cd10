// Reads bencoding (BEP 3) strictly, front to back, without building a tree: the caller asks for
// what should come next, and every wrong or cut value ends the reading.
//
// Views point into the text that was given. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace farmesh::model {

class BencodeReader {
 public:
  explicit BencodeReader(std::string_view text) noexcept : rest_(text), text_(text) {}

  /// False once anything was not what the caller asked for; then every call gives nothing.
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return ok_ && rest_.empty(); }

  std::string_view text();  // "4:spam"
  std::uint64_t number();   // "i42e", none below zero
  void begin_dictionary() { expect('d'); }
  void begin_list() { expect('l'); }
  /// Whether the dictionary or list ends here; it is left then.
  bool end();
  /// A dictionary's next key. They must ascend: `previous` is the one before, empty at first.
  std::string_view key(std::string_view previous);
  char peek() const noexcept { return ok_ && !rest_.empty() ? rest_.front() : '\0'; }
  void skip(int depth = 0);  // any value
  std::size_t offset() const noexcept { return text_.size() - rest_.size(); }
  void fail() noexcept { ok_ = false; }

 private:
  void expect(char c);
  std::uint64_t digits(char terminator);

  std::string_view rest_;
  std::string_view text_;
  bool ok_ = true;
};

void append_bencoded(std::string& out, std::string_view text);
void append_bencoded(std::string& out, std::uint64_t number);

}  // namespace farmesh::model
