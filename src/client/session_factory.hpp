// How node/ makes the public sessions out of a model, and asks its head.
#pragma once

#include <memory>
#include <vector>

#include <farmesh/hidden_session.hpp>
#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

#include "client/shared_model.hpp"

namespace farmesh::client {

/// The session and its streams keep `model`, and with it whatever owns it, alive; the last of
/// them lets it go on the caller's thread. Fails with invalid_argument.
Result<Session> make_session(std::shared_ptr<const SharedModel> model,
                             const SessionOptions& options);
/// So does this one. Fails with unsupported without a head here.
Result<HiddenSession> make_hidden_session(std::shared_ptr<const SharedModel> model,
                                          const SessionOptions& options);

// As DistributedModel has them; on a caller's thread, which keeps `model`.
Result<Rows> embed(const SharedModel& model, const std::vector<TokenId>& ids);
Result<Rows> logits(const SharedModel& model, const Rows& hidden);

}  // namespace farmesh::client
