// Links over TCP and TLS 1.3: both sides prove their node's key, frames leave several to a write,
// payloads are decrypted to where they stay, Nagle off.
#pragma once

#include <memory>

#include <asio/io_context.hpp>

#include "identity/join_token.hpp"
#include "net/link.hpp"

namespace farmesh::net {

/// A frame's bytes must arrive within this time once its prefix has begun; a peer that stops in
/// mid-frame is closed with timeout.
inline constexpr std::chrono::seconds kFrameTimeout{30};

/// A remote that connects must have shaken hands within this time.
inline constexpr std::chrono::seconds kHandshakeTimeout{5};

/// The links' certificate is made from the key of `self`, who is their local identity.
std::unique_ptr<Transport> make_tcp_transport(asio::io_context& context, Clock& clock,
                                              const identity::Credentials& self,
                                              LinkLimits limits = {});

}  // namespace farmesh::net
