// The smallest program on libfarmesh: what an error number of the wire means, and whether asking
// another peer can help.
#include <cstdint>
#include <cstdlib>
#include <iostream>

#include <farmesh/errors.hpp>

int main(int argc, char** argv) {
  const auto number = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 308);
  const farmesh::Errc code = farmesh::errc_from_number(number);
  std::cout << number << ' ' << farmesh::name(code)
            << (farmesh::should_reroute(code) ? ": another peer may help\n"
                                              : ": every peer would answer the same\n");
}
