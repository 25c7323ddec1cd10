#include "http/responder.hpp"

#include <utility>

#include "base/assert.hpp"
#include "http/exchange.hpp"

namespace farmesh::http {
namespace {

/// "name: text" and a line feed; what would end the line is dropped.
void append_field(std::string& out, std::string_view name, std::string_view text) {
  out.append(name);
  for (const char c : text) {
    if (c != '\r' && c != '\n' && c != '\0') out.push_back(c);
  }
  out.push_back('\n');
}

std::string text_of(const Event& event) {
  std::string text;
  text.reserve(event.data.size() + event.name.size() + event.id.size() + 32);
  if (!event.name.empty()) append_field(text, "event: ", event.name);
  std::string_view rest = event.data;
  for (;;) {
    const std::size_t end = rest.find_first_of("\r\n");
    append_field(text, "data: ", rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + (rest.substr(end).starts_with("\r\n") ? 2 : 1));
  }
  // Behind the data: simple readers look for "data: " where an event begins.
  if (!event.id.empty()) append_field(text, "id: ", event.id);
  text.push_back('\n');
  return text;
}

}  // namespace

EventStream::EventStream(std::shared_ptr<Exchange> exchange) noexcept
    : exchange_(std::move(exchange)) {}

EventStream& EventStream::operator=(EventStream&& other) noexcept {
  std::swap(exchange_, other.exchange_);
  return *this;
}

EventStream::~EventStream() {
  if (exchange_) exchange_->abandon();
}

Written EventStream::write(const Event& event) {
  return exchange_->put_event(text_of(event), true);
}

Written EventStream::try_write(const Event& event) {
  return exchange_->put_event(text_of(event), false);
}

Written EventStream::comment(std::string_view text) {
  std::string line;
  append_field(line, ": ", text);
  line.push_back('\n');
  return exchange_->put_event(std::move(line), true);
}

void EventStream::end() { exchange_->end(); }
bool EventStream::closed() const { return exchange_->closed(); }
std::size_t EventStream::queued_bytes() const { return exchange_->queued_bytes(); }

Responder::Responder(std::shared_ptr<Exchange> exchange) noexcept
    : exchange_(std::move(exchange)) {}

Responder& Responder::operator=(Responder&& other) noexcept {
  std::swap(exchange_, other.exchange_);
  return *this;
}

Responder::~Responder() {
  if (exchange_) exchange_->abandon();
}

void Responder::send(Reply reply) {
  FARMESH_ASSERT(exchange_ != nullptr);  // one answer each
  std::exchange(exchange_, nullptr)->reply(std::move(reply));
}

void Responder::json(int status, std::string text, Headers headers) {
  send({status, std::move(text), "application/json", std::move(headers)});
}

void Responder::problem(const Problem& problem, const Headers& headers) {
  FARMESH_ASSERT(exchange_ != nullptr);
  std::exchange(exchange_, nullptr)->problem(problem, headers);
}

EventStream Responder::events(Headers headers) {
  FARMESH_ASSERT(exchange_ != nullptr);
  exchange_->begin_events(headers);
  return EventStream(std::exchange(exchange_, nullptr));
}

bool Responder::closed() const { return exchange_ == nullptr || exchange_->closed(); }

void Responder::on_close(std::function<void()> callback) {
  FARMESH_ASSERT(exchange_ != nullptr);
  exchange_->on_close(std::move(callback));
}

}  // namespace farmesh::http
