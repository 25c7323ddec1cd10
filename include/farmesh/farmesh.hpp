// Everything an application needs: open a model over peers, talk to it, or be a peer.
#pragma once

#include <string_view>

#include <farmesh/activations.hpp>
#include <farmesh/device.hpp>
#include <farmesh/discovery.hpp>
#include <farmesh/errors.hpp>
#include <farmesh/export.hpp>
#include <farmesh/far_mesh.hpp>
#include <farmesh/hidden_session.hpp>
#include <farmesh/identity.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/ledger.hpp>
#include <farmesh/model.hpp>
#include <farmesh/money.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/peer.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

namespace farmesh::inline FARMESH_ABI {

/// Of the library that runs, such as "0.1.0".
FARMESH_API std::string_view version() noexcept;

}  // namespace farmesh::inline FARMESH_ABI
