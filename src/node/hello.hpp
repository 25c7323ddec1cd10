// What a process of ours says of itself when it meets another.
#pragma once

#include <string>

#include "wire/messages.hpp"

namespace farmesh::node {

/// "farmesh 0.1.0"
std::string software_name();

/// New for each process: nodes have no lasting identity yet.
wire::NodeId random_node_id();

/// The hello of a driver, which serves nothing.
wire::Hello client_hello();

}  // namespace farmesh::node
