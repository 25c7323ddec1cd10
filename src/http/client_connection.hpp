// One connection of the client: opened, written to and read from by blocking calls that deadlines
// and a Cancellation end. Confined to one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/types.hpp"
#include "http/channel.hpp"
#include "http/client.hpp"
#include "http/message_head.hpp"
#include "http/url.hpp"

namespace farmesh::http {

/// What ends the waiting of one call.
struct Patience {
  const Cancellation& cancellation;
  TimePoint total;  // of the whole call

  /// Waits until `descriptor` has `events` (of poll), or until `deadline`. Fails with timeout,
  /// cancelled.
  Result<void> wait(int descriptor, short events, TimePoint deadline) const;
};

class ClientConnection {
 public:
  /// Connects to `url` or, through `proxy`, has it connected; then TLS where the URL says so.
  static Result<std::unique_ptr<ClientConnection>> open(const Url& url,
                                                        const std::optional<Url>& proxy,
                                                        std::shared_ptr<TlsContext> tls,
                                                        const ClientOptions& options,
                                                        const Patience& patience);

  Result<void> send(std::string_view bytes, const Patience& patience);
  /// The final head; what comes before it (100 Continue) is dropped.
  Result<ResponseHead> receive_head(std::string_view method, const Patience& patience);
  using Sink = std::function<Result<void>(std::string_view)>;
  Result<void> receive_body(Framing framing, const Sink& sink, const Patience& patience);

  /// Nothing of an answer has come since the last send().
  bool silent() const noexcept { return silent_; }
  /// Whether another request may follow: nothing unasked came, and it is still open.
  bool is_reusable();

 private:
  ClientConnection(int descriptor, const ClientOptions& options)
      : channel_(descriptor), options_(options) {}

  Result<void> tunnel(const Url& url, const Url& proxy, const Patience& patience);
  Result<void> shake_hands(TimePoint deadline, const Patience& patience);
  /// Reads more into buffer_; false at the end.
  Result<bool> fill(const Patience& patience);

  Channel channel_;
  const ClientOptions& options_;
  std::string buffer_;  // received, not yet consumed
  bool silent_ = true;
};

/// "Basic …" of "user:password".
std::string basic_credentials(std::string_view user_info);

}  // namespace farmesh::http
