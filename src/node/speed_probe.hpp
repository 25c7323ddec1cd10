// How fast a stage is, before anybody has used it: a few rows through all of its layers.
#pragma once

#include "net/runtime.hpp"
#include "serve/worker.hpp"

namespace farmesh::node {

/// Runs rows of zeros through a worker that has no session yet and leaves none; its engine measures
/// them (measured_engine.hpp). Waits for their end. Not from the network thread.
void probe_speed(serve::Worker& worker, net::Runtime& runtime);

}  // namespace farmesh::node
