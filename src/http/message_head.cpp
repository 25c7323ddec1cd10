#include "http/message_head.hpp"

#include <algorithm>
#include <charconv>
#include <utility>  // before Asio 1.74, which forgets it

#include <boost/beast/http/basic_parser.hpp>

namespace farmesh::http {
namespace {

namespace beast = boost::beast;

constexpr std::size_t kMaxChunkLine = 256;
constexpr std::size_t kMaxTrailer = 4096;

std::string_view view(beast::string_view text) noexcept { return {text.data(), text.size()}; }

/// Beast's parser, told to stop at the end of the head, writing into our own types.
template <bool IsRequest>
class HeadParser : public beast::http::basic_parser<IsRequest> {
 public:
  using Code = beast::error_code;
  using Base = beast::http::basic_parser<IsRequest>;

  Code parse(std::string_view head) {
    this->header_limit(static_cast<std::uint32_t>(head.size() + 1));
    this->body_limit(UINT64_MAX);  // bodies are ours; with none at all, 1.74 refuses every length
    Code code;
    Base::put(boost::asio::const_buffer(head.data(), head.size()), code);
    return code;
  }

  std::string method, target;
  int version = 0;  // 10 or 11
  int status = 0;
  Headers headers;

 private:
  void on_request_impl(beast::http::verb, beast::string_view verb, beast::string_view path,
                       int number, Code&) override {
    method = view(verb);
    target = view(path);
    version = number;
  }
  void on_response_impl(int code, beast::string_view, int number, Code&) override {
    status = code;
    version = number;
  }
  void on_field_impl(beast::http::field, beast::string_view name, beast::string_view value,
                     Code&) override {
    headers.add(view(name), view(value));
  }
  void on_header_impl(Code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Code&) override {}
  std::size_t on_body_impl(beast::string_view, Code&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, Code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view, Code&) override { return 0; }
  void on_finish_impl(Code&) override {}
};

/// How the headers delimit the body; nothing when they contradict each other or themselves.
std::optional<Framing> framing_of(const Headers& headers, int version) {
  const std::size_t lengths = headers.count("Content-Length");
  const std::size_t encodings = headers.count("Transfer-Encoding");
  if (lengths + encodings > 1) return std::nullopt;
  if (encodings == 1) {
    if (version < 11 || !equal_ignoring_case(*headers.get("Transfer-Encoding"), "chunked")) {
      return std::nullopt;
    }
    return Framing{Framing::Kind::chunked};
  }
  if (lengths == 0) return Framing{};
  const std::string_view text = *headers.get("Content-Length");
  Framing framing{Framing::Kind::length};
  const auto [end, problem] =
      std::from_chars(text.data(), text.data() + text.size(), framing.length);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return framing;
}

bool stays_open(const Headers& headers, int version) {
  return version == 11 && !headers.has_token("Connection", "close");
}

/// A request line that is sound but for its version: another HTTP than ours.
bool is_other_version(std::string_view head) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  if (line.size() < 10) return false;
  const std::string_view version = line.substr(line.size() - 9);  // " HTTP/d.d"
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return version.starts_with(" HTTP/") && is_digit(version[6]) && version[7] == '.' &&
         is_digit(version[8]) && version.substr(6, 2) != "1.";
}

bool is_host(std::string_view host) {
  return std::ranges::all_of(host, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("-._:[]").find(c) != std::string_view::npos;
  });
}

Problem malformed(std::string message) { return {400, "bad_request", std::move(message)}; }

}  // namespace

HeadScanner::Found HeadScanner::scan(std::string_view input) noexcept {
  for (; position_ < input.size(); ++position_) {
    const char c = input[position_];
    if (position_ == line_begin_ && position_ > 0 && (c == ' ' || c == '\t')) {
      return Found::malformed;
    }
    if (c == '\0' || c == '\n') return Found::malformed;
    if (c != '\r') continue;
    if (position_ + 1 == input.size()) return Found::more;
    if (input[position_ + 1] != '\n') return Found::malformed;
    const bool empty = position_ == line_begin_;
    if (empty && position_ == 0) return Found::malformed;
    line_begin_ = position_ + 2;
    ++position_;
    if (!empty) continue;
    position_ = line_begin_;
    return Found::complete;
  }
  return Found::more;
}

std::optional<Problem> read_request_head(std::string_view head, const HeadLimits& limits,
                                         RequestHead& out) {
  HeadParser<true> parser;
  if (const auto code = parser.parse(head)) {
    if (is_other_version(head)) return Problem{505, "version_unsupported", "this is HTTP/1.1"};
    return malformed("the request's head is malformed");
  }
  if (parser.target.size() > limits.target_bytes) {
    return Problem{414, "uri_too_long", "the URL is too long"};
  }
  if (parser.headers.size() > limits.headers) {
    return Problem{431, "headers_too_large", "too many headers"};
  }
  const std::size_t hosts = parser.headers.count("Host");
  if (hosts > 1 || (hosts == 0 && parser.version == 11)) return malformed("one Host is needed");
  if (hosts == 1 && !is_host(*parser.headers.get("Host"))) return malformed("no host name");
  const auto framing = framing_of(parser.headers, parser.version);
  if (!framing) return malformed("Content-Length and Transfer-Encoding do not delimit a body");

  out.http_1_0 = parser.version == 10;
  out.keep_alive = stays_open(parser.headers, parser.version);
  out.method = std::move(parser.method);
  out.target = std::move(parser.target);
  out.headers = std::move(parser.headers);
  out.framing = *framing;
  return std::nullopt;
}

Result<ResponseHead> read_response_head(std::string_view head, std::string_view method) {
  HeadParser<false> parser;
  if (const auto code = parser.parse(head)) return Error{Errc::bad_http, code.message()};
  const auto framing = framing_of(parser.headers, parser.version);
  if (!framing) return Error{Errc::bad_http, "the body's length is contradictory"};

  ResponseHead out{parser.status, stays_open(parser.headers, parser.version),
                   std::move(parser.headers), *framing};
  const bool bodiless =
      method == "HEAD" || out.status < 200 || out.status == 204 || out.status == 304;
  if (bodiless) {
    out.framing = {};
  } else if (out.framing.kind == Framing::Kind::none) {
    out.framing.kind = Framing::Kind::until_end;
    out.keep_alive = false;
  }
  return out;
}

BodyReader::BodyReader(Framing framing) noexcept : left_(framing.length) {
  switch (framing.kind) {
    case Framing::Kind::none: state_ = State::complete; break;
    case Framing::Kind::length: state_ = left_ == 0 ? State::complete : State::length; break;
    case Framing::Kind::chunked: state_ = State::size_line; break;
    case Framing::Kind::until_end: state_ = State::until_end; break;
  }
}

BodyReader::Piece BodyReader::fail() noexcept {
  state_ = State::malformed;
  return {};
}

BodyReader::Piece BodyReader::next(std::string_view input) {
  switch (state_) {
    case State::complete:
    case State::malformed: return {};
    case State::until_end: return {input.size(), input};
    case State::length:
    case State::chunk: {
      const std::string_view data =
          input.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size())));
      left_ -= data.size();
      if (left_ == 0) state_ = state_ == State::chunk ? State::chunk_end : State::complete;
      return {data.size(), data};
    }
    case State::chunk_end:
      if (!std::string_view("\r\n").starts_with(input.substr(0, 2))) return fail();
      if (input.size() < 2) return {};
      state_ = State::size_line;
      return {2, {}};
    case State::size_line:
    case State::trailer: return line(input);
  }
  return {};
}

/// A chunk's size, or a line after the last chunk. Extensions and trailers are dropped.
BodyReader::Piece BodyReader::line(std::string_view input) {
  const std::size_t end = input.find("\r\n");
  std::string_view text = input.substr(0, end);
  if (end == std::string_view::npos && text.ends_with('\r')) text.remove_suffix(1);
  const std::size_t limit =
      state_ == State::size_line ? kMaxChunkLine : kMaxTrailer - trailer_bytes_;
  const bool printable = std::ranges::all_of(
      text, [](char c) { return c == '\t' || (static_cast<unsigned char>(c) >= ' ' && c != 127); });
  if (text.size() > limit || !printable) return fail();
  if (state_ == State::size_line && !text.empty()) {
    const auto [digits_end, problem] =
        std::from_chars(text.data(), text.data() + text.size(), left_, 16);
    const auto digits = static_cast<std::size_t>(digits_end - text.data());
    const bool ended = digits == text.size() || text[digits] == ';';
    if (problem != std::errc() || !ended) return fail();
  }
  if (end == std::string_view::npos) return {};
  if (state_ == State::size_line) {
    if (text.empty()) return fail();
    state_ = left_ > 0 ? State::chunk : State::trailer;
  } else if (text.empty()) {
    state_ = State::complete;
  } else {
    trailer_bytes_ += text.size();
  }
  return {end + 2, {}};
}

}  // namespace farmesh::http
