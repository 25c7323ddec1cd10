// Runs the turns of one session, wherever the generation loop is: here, or on a peer with a head.
// Threading: network thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <farmesh/activations.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>

#include "base/types.hpp"
#include "driver/generator.hpp"
#include "net/task.hpp"
#include "wire/messages.hpp"

namespace farmesh::client {

/// How a session's layers are reached, as SessionOptions has it.
struct RouteWishes {
  bool warm_standby = false;
  Activations activations = Activations::residual;
};

struct TurnInput {
  /// The whole session. What the cache already holds of it is not computed again.
  std::vector<TokenId> ids;
  std::uint32_t emitted = 0;     // the last of `ids` that are output of this very turn
  std::uint32_t max_tokens = 0;  // including those
  SamplingOptions sampling;
  std::vector<TokenId> stop_tokens;
  std::uint32_t max_draft = 0;                      // tokens guessed ahead in one step
  std::string traceparent;                          // W3C trace context; may be empty
  std::shared_ptr<driver::Bill> bill;               // what pays the peers; null: nobody
  std::shared_ptr<const driver::NodeChoice> nodes;  // whom it may use; null: anybody
};

class TurnRunner {
 public:
  virtual ~TurnRunner() = default;

  /// One turn at a time. `on_token` as in driver::Generator: false ends the turn.
  virtual net::Task<Result<wire::Finish>> run(TurnInput input, driver::OnToken on_token) = 0;
  /// Ends the turn in progress with `cancelled`, frees the cache on every peer at once.
  virtual void cancel() = 0;
  /// The reader made room (see gated_head.hpp).
  virtual void poke() = 0;
  virtual std::uint32_t recoveries() const = 0;
  /// Who computed which positions of the session, in order; nothing where another process drives.
  virtual std::vector<driver::CommittedRows> committed() const { return {}; }
};

}  // namespace farmesh::client
