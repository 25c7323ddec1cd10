// What every id stands for: its bytes, packed, and whether it is special.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.hpp"

namespace farmesh::text {

class TokenTable {
 public:
  static constexpr std::size_t kMaxBytes = 256u << 20;  // of all tokens together

  /// The next id, from 0 up. False, with nothing added, above kMaxBytes.
  bool add(std::string_view bytes, bool special) {
    if (bytes.size() > kMaxBytes - bytes_.size()) return false;
    bytes_.append(bytes);
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
    special_.push_back(special);
    return true;
  }

  std::size_t size() const noexcept { return ends_.size(); }

  /// Empty for ids that are not there.
  std::string_view bytes(TokenId id) const noexcept {
    if (id >= ends_.size()) return {};
    const std::size_t begin = id == 0 ? 0 : ends_[id - 1];
    return std::string_view(bytes_).substr(begin, ends_[id] - begin);
  }
  bool is_special(TokenId id) const noexcept { return id < special_.size() && special_[id]; }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> ends_;  // [size()]
  std::vector<bool> special_;        // [size()]
};

}  // namespace farmesh::text
