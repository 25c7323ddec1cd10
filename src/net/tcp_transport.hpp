// Links over TCP: gather writes, payloads read straight into aligned memory, Nagle off.
#pragma once

#include <memory>

#include <asio/io_context.hpp>

#include "net/link.hpp"

namespace farmesh::net {

/// A frame's bytes must arrive within this time once its prefix has begun; a peer that stops in
/// mid-frame is closed with timeout.
inline constexpr std::chrono::seconds kFrameTimeout{30};

std::unique_ptr<Transport> make_tcp_transport(asio::io_context& context, Clock& clock,
                                              LinkLimits limits = {});

}  // namespace farmesh::net
