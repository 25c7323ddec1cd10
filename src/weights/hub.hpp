// One model at one revision of a hub that speaks as Hugging Face's does: whole files, and ranges
// of files, from HUB/ORG/NAME/resolve/REVISION/FILE.
//
// What it answers is a stranger's word: sizes, ranges and types of answers are checked here, the
// bytes by whoever has hashes. Thread-safe; blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "http/client.hpp"

namespace farmesh::weights {

struct HubOptions {
  std::string url = "https://huggingface.co";
  std::string model;  // "ORG/NAME"
  std::string revision = "main";
  std::string token;  // sent to `url`'s own host only, and only over TLS or to this machine
};

/// What tells a file from another version of it.
struct HubVersion {
  std::uint64_t length = 0;
  std::string etag;  // empty: the hub tells none
};

struct WholeFile {
  std::string bytes;
  std::string etag;
  std::string commit;  // that the revision stands for; empty: the hub does not tell
};

class Hub {
 public:
  /// Fails with config_invalid: no URL, id or revision.
  static Result<std::unique_ptr<Hub>> create(HubOptions options);

  /// Fails with model_not_found, hub_refused, busy (it may do so later), bad_http, frame_too_large
  /// (above `max_bytes`), and as http::Client::send().
  Result<WholeFile> whole(const std::string& file, std::size_t max_bytes);

  /// May refuse the version it is shown, before a byte of it came.
  using OnVersion = std::function<Result<void>(const HubVersion&)>;
  using OnBytes = std::function<Result<void>(std::string_view)>;
  /// Bytes [begin, end), fewer where the file ends before. Fails as whole(), with bad_http (the
  /// hub does not know ranges, or sends another), hub_changed (the file is shorter than `begin`),
  /// connection_lost (fewer bytes came), and with what the callbacks fail with.
  Result<void> range(const std::string& file, std::uint64_t begin, std::uint64_t end,
                     const OnVersion& on_version, const OnBytes& on_bytes);

  const std::string& host() const noexcept { return host_; }

 private:
  explicit Hub(HubOptions options);
  http::ClientRequest request_for(const std::string& file) const;
  Error refusal(int status, const std::string& file) const;

  HubOptions options_;
  std::string base_;  // of every file
  std::string host_;  // for people
  http::Client client_;
};

}  // namespace farmesh::weights
