#include "node/hello.hpp"

#include <farmesh/farmesh.hpp>

std::string_view farmesh::version() noexcept { return FARMESH_VERSION; }

namespace farmesh::node {

std::string software_name() { return "farmesh " + std::string(version()); }

wire::Hello client_hello(const NodeId& self) {
  wire::Hello hello;
  hello.node_id = self;
  hello.software = software_name();
  return hello;
}

}  // namespace farmesh::node
