#include "node/hello.hpp"

#include <farmesh/farmesh.hpp>

namespace farmesh {

std::string_view version() noexcept { return FARMESH_VERSION; }

namespace node {

std::string software_name() { return "farmesh " + std::string(version()); }

wire::Hello client_hello(const NodeId& self) {
  wire::Hello hello;
  hello.node_id = self;
  hello.software = software_name();
  return hello;
}

}  // namespace node
}  // namespace farmesh
