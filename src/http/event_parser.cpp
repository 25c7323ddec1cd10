#include "http/event_parser.hpp"

#include <utility>

namespace farmesh::http {

EventParser::EventParser(OnEvent on_event, std::size_t max_event_bytes)
    : on_event_(std::move(on_event)), max_event_bytes_(max_event_bytes) {
  event_.name = "message";
}

Result<void> EventParser::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {  // the second half of CR LF
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = bytes.find_first_of("\r\n");
    const std::string_view piece = bytes.substr(0, end);
    if (partial_.size() + piece.size() + event_.data.size() > max_event_bytes_) {
      return Error{Errc::frame_too_large, "a server-sent event"};
    }
    partial_ += piece;
    if (end == std::string_view::npos) return {};
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    const std::string text = std::exchange(partial_, {});
    if (auto read = line(text); !read) return read;
  }
  return {};
}

Result<void> EventParser::line(std::string_view text) {
  if (text.empty()) {
    const bool complete = std::exchange(has_data_, false);
    if (complete) event_.data.pop_back();  // the line feed after the last data line
    const bool more = !complete || on_event_(event_);
    event_.data.clear();
    event_.name = "message";
    if (!more) return Error{Errc::cancelled, "the reader wants no more events"};
    return {};
  }
  const std::size_t colon = text.find(':');
  const std::string_view field = text.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    event_.data.append(value).push_back('\n');
    has_data_ = true;
  } else if (field == "event") {
    event_.name = value.empty() ? "message" : value;
  } else if (field == "id" && value.find('\0') == std::string_view::npos) {
    event_.id = value;
  }
  return {};
}

}  // namespace farmesh::http
