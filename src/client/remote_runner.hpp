// Turns of a session whose generation loop runs on a peer with a head; on another one if that
// peer is lost, from the ids alone, so that no token is missing or told twice.
//
// Takes token frames from a peer, gives tokens to conversation.hpp. Threading: network thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "client/shared_model.hpp"
#include "client/turn_runner.hpp"

namespace farmesh::client {

class RemoteRunner final : public TurnRunner {
 public:
  /// `model` outlives the runner.
  explicit RemoteRunner(const SharedModel& model, RouteWishes wishes = {});
  ~RemoteRunner() override;  // tells the head to free the session

  net::Task<Result<wire::Finish>> run(TurnInput input, driver::OnToken on_token) override;
  void cancel() override;
  void poke() override {}
  std::uint32_t recoveries() const override;

 private:
  struct Exchange;  // with one head: its frames, in order

  net::Task<Result<void>> choose_head();
  net::Task<Result<wire::Finish>> follow(Exchange& exchange, TurnInput& input,
                                         const driver::OnToken& on_token);
  Result<wire::Finish> take(const Exchange& exchange, const wire::Frame& frame, TurnInput& input,
                            const driver::OnToken& on_token);

  const SharedModel& model_;
  const RouteWishes wishes_;
  std::shared_ptr<Exchange> exchange_;  // kept between turns: the head keeps its cache
  std::set<std::string> failed_;        // heads that failed since the last token
  std::optional<Error> last_failure_;
  std::uint32_t recoveries_ = 0;
  bool cancelled_ = false;
};

}  // namespace farmesh::client
