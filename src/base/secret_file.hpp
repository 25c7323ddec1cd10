// Keys and tokens at rest: files that only their owner may read, written whole or not at all.
//
// Safe from any thread, and from several processes at once.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh {

inline constexpr std::size_t kMaxSecretFileBytes = 16u << 10;

/// The file's bytes. Fails with config_invalid when there is no such file, when others than its
/// owner have any right to it, when it is no regular file or larger than kMaxSecretFileBytes;
/// with io_error when the system refuses.
Result<std::string> read_secret_file(const std::filesystem::path& file);

/// Makes the file with mode 0600, and missing folders with 0700; readers see all of `content` or
/// no file. False: there is one already, and it was left as it is. Fails with io_error.
Result<bool> create_secret_file(const std::filesystem::path& file, std::string_view content);

}  // namespace farmesh
