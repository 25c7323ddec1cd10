// Any bytes as requests on a connection. How they are cut into pieces must not change what is read.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "http/message_head.hpp"

namespace {

using namespace farmesh::http;

/// What a server would make of the bytes, one line for each request, or for what ends the reading.
std::vector<std::string> requests_in(std::string_view text, std::size_t step) {
  std::vector<std::string> out;
  std::string waiting;
  HeadScanner scanner;
  std::string line;
  BodyReader body{Framing{}};
  bool in_body = false;
  for (std::size_t i = 0; i < text.size(); i += step) {
    waiting += text.substr(i, step);
    for (bool progress = true; progress;) {
      progress = false;
      if (!in_body) {
        const auto found = scanner.scan(waiting);
        if (found == HeadScanner::Found::malformed) return out;
        if (found == HeadScanner::Found::more) continue;
        RequestHead head;
        if (read_request_head(std::string_view(waiting).substr(0, scanner.size()), {}, head)) {
          return out;
        }
        FARMESH_ASSERT(head.framing.kind != Framing::Kind::until_end);
        waiting.erase(0, scanner.size());
        scanner = {};
        line = head.method + " " + head.target + " ";
        body = BodyReader(head.framing);
        in_body = true;
      }
      const auto piece = body.next(waiting);
      if (body.malformed()) return out;
      FARMESH_ASSERT(piece.consumed <= waiting.size());
      line += piece.data;
      waiting.erase(0, piece.consumed);
      progress = piece.consumed > 0;
      if (!body.complete()) continue;
      out.push_back(line);
      in_body = false;
      progress = true;
    }
  }
  return out;
}

}  // namespace

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto whole = requests_in(text, text.empty() ? 1 : text.size());
  FARMESH_ASSERT(requests_in(text, 1) == whole);
  FARMESH_ASSERT(requests_in(text, 7) == whole);
  HeadScanner scanner;
  if (scanner.scan(text) == HeadScanner::Found::complete) {
    for (const char* method : {"GET", "HEAD"}) {
      static_cast<void>(!read_response_head(text.substr(0, scanner.size()), method));
    }
  }
  return 0;
}
