// Coroutines of the network thread. Returning Task already says "asynchronous".
#pragma once

#include <string_view>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

namespace farmesh::net {

template <class T = void>
using Task = asio::awaitable<T>;
using Executor = asio::any_io_executor;

/// Starts `task` on `executor`. An exception that escapes is logged under `name` and ends the
/// process: in this code base an escaped exception is a bug. Arguments of a spawned coroutine
/// are taken by value and its object is kept alive by a captured shared_ptr.
void spawn(Executor executor, std::string_view name, Task<void> task);

/// Tasks started by spawn() that have not ended; a test or a shutdown waits for zero.
int live_tasks() noexcept;

}  // namespace farmesh::net
