// One client's connection: requests out of its bytes, one at a time; answers into them.
//
// Confined to its loop's thread, but for wake(). Time is looked at by check(), which the loop calls
// again and again: no timer of its own, and while idle no buffer either.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/types.hpp"
#include "http/channel.hpp"
#include "http/exchange.hpp"
#include "http/ip_address.hpp"
#include "http/loop.hpp"
#include "http/message_head.hpp"
#include "http/request.hpp"

namespace farmesh::http {

struct ServerState;

class Connection final : public Loop::Ready,
                         public ReplySink,
                         public std::enable_shared_from_this<Connection> {
 public:
  Connection(ServerState& server, Loop& loop, int descriptor, IpAddress peer);
  ~Connection();

  void start();
  void check(TimePoint now);
  void drain();  // closes if idle; otherwise after the answer under way
  void close();
  bool is_closed() const noexcept { return phase_ == Phase::closed; }

  void wake() override;
  void on_readable() override;
  void on_writable() override;

 private:
  enum class Phase { handshake, idle, head, body, answering, lingering, closed };

  void shake_hands();
  void read_more();
  void await_more();
  void on_end();
  void advance();
  void begin_head();
  void take_head();
  std::optional<Problem> read_target();
  void route_request();
  void take_body();
  void dispatch();
  void answer_options(std::string allowed);
  std::shared_ptr<Exchange> begin_exchange(bool keep_alive);
  void refuse(const Problem& problem, bool keep_alive = false, Headers headers = {});
  void flush();
  void finish();
  void linger();
  void report(bool cut);
  std::string cors_headers() const;
  bool exchange_is_long() const noexcept {
    return route_ != nullptr && route_->options.long_running;
  }

  ServerState& server_;
  Loop& loop_;
  const IpAddress peer_;
  Channel channel_;
  Loop::Socket socket_;
  Phase phase_ = Phase::handshake;
  bool reading_ = false;     // told when readable
  bool writing_ = false;     // told when writable
  bool peer_ended_ = false;  // it sends no more
  TimePoint deadline_{};     // of the phase
  TimePoint started_{};      // first byte of the request
  TimePoint comment_at_{};   // when a silent stream gets its comment
  std::string ahead_;        // read, and not yet consumed
  std::size_t lingered_ = 0;

  // While a request is received and answered.
  std::optional<HeadScanner> scanner_;
  std::optional<BodyReader> body_;
  std::shared_ptr<Request> request_;
  RequestHead head_;
  const Route* route_ = nullptr;
  std::size_t body_charge_ = 0;  // of max_body_bytes_in_all
  std::shared_ptr<Exchange> exchange_;
  std::string out_;  // taken from the exchange
  std::size_t out_done_ = 0;
  std::uint64_t sent_ = 0;
};

}  // namespace farmesh::http
