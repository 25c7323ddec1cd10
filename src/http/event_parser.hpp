// Reads a text/event-stream in pieces of any size: the other end of EventStream.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <farmesh/result.hpp>

namespace farmesh::http {

struct ReceivedEvent {
  std::string data;
  std::string name;  // "message" unless the stream named it
  std::string id;    // of this event or the last one that had an id
};

/// Confined to one thread.
class EventParser {
 public:
  using OnEvent = std::function<bool(const ReceivedEvent&)>;

  explicit EventParser(OnEvent on_event, std::size_t max_event_bytes = 1024 * 1024);

  /// Calls on_event for each event that is complete. Fails with cancelled when on_event returned
  /// false, with frame_too_large when an event is larger than allowed.
  Result<void> feed(std::string_view bytes);

 private:
  Result<void> line(std::string_view text);

  OnEvent on_event_;
  std::size_t max_event_bytes_;
  std::string partial_;  // of the last line
  bool after_cr_ = false;
  ReceivedEvent event_;
  bool has_data_ = false;
};

}  // namespace farmesh::http
