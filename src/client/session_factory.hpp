// How node/ makes the public Session out of a model.
#pragma once

#include <memory>

#include <farmesh/result.hpp>
#include <farmesh/session.hpp>

#include "client/shared_model.hpp"

namespace farmesh::client {

/// The session and its streams keep `model`, and with it whatever owns it, alive; the last of
/// them lets it go on the caller's thread. Fails with invalid_argument.
Result<Session> make_session(std::shared_ptr<const SharedModel> model,
                             const SessionOptions& options);

}  // namespace farmesh::client
