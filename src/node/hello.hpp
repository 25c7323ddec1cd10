// What a process of ours says of itself when it meets another.
#pragma once

#include <string>

#include "wire/messages.hpp"

namespace farmesh::node {

/// "farmesh 0.1.0"
std::string software_name();

/// The hello of a driver, which serves nothing.
wire::Hello client_hello(const NodeId& self);

}  // namespace farmesh::node
