// Where forward passes run: a thread of their own, or virtual time in simulations.
//
// I/O threads never compute, compute threads never wait on a socket: the one crossing is run().
#pragma once

#include <functional>
#include <memory>

#include <farmesh/result.hpp>

#include "base/types.hpp"
#include "net/clock.hpp"

namespace farmesh::serve {

class Compute {
 public:
  virtual ~Compute() = default;
  /// Runs `work` in turn, one at a time, then `done` on the clock's executor. `rows` tells the
  /// simulation how much work it is. Called on the executor.
  virtual void run(std::uint32_t rows, std::function<void()> work, std::function<void()> done) = 0;
};

/// A thread named fm-compute. The destructor waits for the work at hand, and drops the rest. Fails
/// with io_error when the process is out of descriptors.
Result<std::unique_ptr<Compute>> make_compute_thread(net::Clock& clock);

/// Runs `work` inline when its virtual time is over: base + rows * per_row after the last one.
std::unique_ptr<Compute> make_sim_compute(net::Clock& clock, Duration base, Duration per_row);

/// Calls `work` on the compute thread, where an exception of libtorch or the allocator becomes
/// compute_failed or out_of_memory. Its text is logged and goes no further: it may hold paths.
Result<void> caught(const std::function<Result<void>()>& work);

}  // namespace farmesh::serve
