#include <deque>

#include "net/link_events.hpp"
#include "net/sim_transport.hpp"

namespace farmesh::net {
namespace {

// What one end receives. Frames wait here for a turn of the executor, one frame a turn.
struct Inbox : std::enable_shared_from_this<Inbox> {
  explicit Inbox(Executor e) : executor(e), events(std::make_shared<LinkEvents>(e)) {}

  void push(wire::Frame frame) {
    bytes += frame.wire_bytes();
    frames.push_back(std::move(frame));
    pump();
  }

  void push_end() {
    remote_gone = true;
    pump();
  }

  void pump() {
    if (pumping || !events->started() || (frames.empty() && !remote_gone)) return;
    pumping = true;
    asio::post(executor, [self = shared_from_this()] {
      self->pumping = false;
      self->deliver_one();
      self->pump();
    });
  }

  void deliver_one() {
    if (frames.empty()) {
      if (remote_gone) events->end({Errc::connection_lost, "the remote end closed"});
      remote_gone = false;
      return;
    }
    wire::Frame frame = std::move(frames.front());
    frames.pop_front();
    bytes -= frame.wire_bytes();
    events->deliver(std::move(frame));
  }

  void discard() {
    frames.clear();
    bytes = 0;
  }

  Executor executor;
  std::shared_ptr<LinkEvents> events;
  std::deque<wire::Frame> frames;
  std::size_t bytes = 0;
  bool remote_gone = false;
  bool pumping = false;
};

class PipeEnd final : public Link {
 public:
  PipeEnd(std::shared_ptr<Inbox> mine, std::shared_ptr<Inbox> theirs, std::string remote,
          LinkLimits limits, const NodeId& id)
      : mine_(std::move(mine)),
        theirs_(std::move(theirs)),
        remote_(std::move(remote)),
        limits_(limits),
        identity_{id, id} {}

  ~PipeEnd() override {
    const bool was_open = is_open();
    mine_->events->drop();
    mine_->discard();
    if (was_open) theirs_->push_end();
  }

  void start(std::function<void(wire::Frame)> on_frame,
             std::function<void(Error)> on_close) override {
    mine_->events->start(std::move(on_frame), std::move(on_close));
    mine_->pump();
  }

  Result<void> send(wire::Frame frame) override {
    Result<void> sendable = check_sendable(frame, *mine_->events, theirs_->bytes, limits_);
    if (!sendable) return sendable;
    if (!theirs_->events->ended()) theirs_->push(std::move(frame));
    return {};
  }

  std::size_t queued_bytes() const noexcept override { return theirs_->bytes; }
  bool is_open() const noexcept override { return !mine_->events->ended(); }

  void close(Error reason) override {
    if (!is_open()) return;
    mine_->events->end(std::move(reason));
    mine_->discard();
    theirs_->push_end();
  }

  const std::string& remote_address() const noexcept override { return remote_; }
  const LinkIdentity& identity() const noexcept override { return identity_; }

 private:
  std::shared_ptr<Inbox> mine_;
  std::shared_ptr<Inbox> theirs_;
  std::string remote_;
  LinkLimits limits_;
  LinkIdentity identity_;
};

}  // namespace

std::pair<std::shared_ptr<Link>, std::shared_ptr<Link>> make_pipe(Clock& clock, std::string name_a,
                                                                  std::string name_b,
                                                                  LinkLimits limits,
                                                                  const NodeId& id) {
  const auto inbox_a = std::make_shared<Inbox>(clock.executor());
  const auto inbox_b = std::make_shared<Inbox>(clock.executor());
  return {std::make_shared<PipeEnd>(inbox_a, inbox_b, std::move(name_b), limits, id),
          std::make_shared<PipeEnd>(inbox_b, inbox_a, std::move(name_a), limits, id)};
}

}  // namespace farmesh::net
