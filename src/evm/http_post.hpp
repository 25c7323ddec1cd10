// JSON-RPC's questions over HTTP, within the bounds of rpc.hpp.
#pragma once

#include "evm/rpc.hpp"
#include "http/client.hpp"

namespace farmesh::evm {

/// What Rpc posts with: connections are kept, certificates verified, redirects not followed, and
/// `cancellation` ends what is under way. Copies share one client; thread-safe.
HttpPost http_post(http::Cancellation cancellation = {});

}  // namespace farmesh::evm
