// What a coordinator is sent and what it says, as docs/http-api.md has it. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/far_mesh.hpp>

#include "sdk/backend.hpp"

namespace farmesh::sdk {

/// Of POST /v1/completions or /v1/chat/completions, streamed. Fails with invalid_request: text that
/// is no UTF-8, a number that is none.
MeshResult<std::string> request_body(const Ask& ask, const std::string& model);

/// One event of such a stream.
struct StreamChunk {
  std::string id;
  std::string text;
  FinishReason finish = FinishReason::none;
  std::optional<MeshUsage> usage;  // but for `finish`
  std::optional<MeshError> error;
};
/// Nothing when it is none.
std::optional<StreamChunk> read_chunk(std::string_view data);

/// A refusal: any status but 200. Whatever the body is, the status tells the kind.
MeshError read_refusal(int status, std::string_view body);

// Nothing when the text is not the reply it should be. Amounts are read exactly.
std::optional<std::vector<MeshModel>> read_models(std::string_view body);
std::optional<MeshStatus> read_status(std::string_view body);
std::optional<MeshEarnings> read_earnings(std::string_view body);

}  // namespace farmesh::sdk
