// Takes the bytes of a message's head, gives its parts and how long its body is.
//
// Strict on purpose: two programs that read one head differently is how requests are smuggled. No
// sockets and no clock here, so that any bytes can be thrown at it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

#include "http/headers.hpp"
#include "http/responder.hpp"

namespace farmesh::http {

/// Finds the end of a head in bytes that arrive in pieces.
class HeadScanner {
 public:
  enum class Found {
    more,
    complete,   // size() bytes of the input are the head, its empty line included
    malformed,  // a bare CR or LF, a NUL, a folded line, or an empty first line
  };
  /// `input` begins where it began last time, and may have grown.
  Found scan(std::string_view input) noexcept;
  std::size_t size() const noexcept { return position_; }

 private:
  std::size_t position_ = 0;
  std::size_t line_begin_ = 0;
};

/// How a body is delimited.
struct Framing {
  enum class Kind { none, length, chunked, until_end } kind = Kind::none;
  std::uint64_t length = 0;
};

struct RequestHead {
  std::string method;
  std::string target;
  bool http_1_0 = false;
  bool keep_alive = true;
  Headers headers;
  Framing framing;
};

struct ResponseHead {
  int status = 0;
  bool keep_alive = true;
  Headers headers;
  Framing framing;
};

struct HeadLimits {
  std::size_t target_bytes = 8 * 1024;
  std::size_t headers = 100;
};

/// Reads a whole head, as HeadScanner delimits it. A refusal has 400, 414, 431, 501 or 505; after
/// each the connection must end, as what follows cannot be delimited.
std::optional<Problem> read_request_head(std::string_view head, const HeadLimits& limits,
                                         RequestHead& out);

/// Fails with bad_http. `method` is that of the request: the answer to HEAD has no body.
Result<ResponseHead> read_response_head(std::string_view head, std::string_view method);

/// Takes a body out of the bytes after a head.
class BodyReader {
 public:
  explicit BodyReader(Framing framing) noexcept;

  struct Piece {
    std::size_t consumed = 0;  // bytes of the input to be dropped; 0: it needs more of them
    std::string_view data;     // those of them that belong to the body
  };
  /// Call until it consumes nothing, or is complete or malformed.
  Piece next(std::string_view input);

  bool complete() const noexcept { return state_ == State::complete; }
  bool malformed() const noexcept { return state_ == State::malformed; }
  /// Whether the body ends where the connection does.
  bool until_end() const noexcept { return state_ == State::until_end; }

 private:
  enum class State { length, until_end, size_line, chunk, chunk_end, trailer, complete, malformed };
  Piece line(std::string_view input);
  Piece fail() noexcept;

  State state_;
  std::uint64_t left_ = 0;  // of the body or chunk
  std::size_t trailer_bytes_ = 0;
};

}  // namespace farmesh::http
