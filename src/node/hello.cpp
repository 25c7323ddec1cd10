#include "node/hello.hpp"

#include <farmesh/farmesh.hpp>

#include "base/digest.hpp"

namespace farmesh {

std::string_view version() noexcept { return FARMESH_VERSION; }

namespace node {

std::string software_name() { return "farmesh " + std::string(version()); }

wire::NodeId random_node_id() {
  wire::NodeId id;
  random_bytes(id);
  return id;
}

wire::Hello client_hello() {
  wire::Hello hello;
  hello.node_id = random_node_id();
  hello.software = software_name();
  return hello;
}

}  // namespace node
}  // namespace farmesh
