// What goes into a worker and comes out of it: its limits, a step, the step's result.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include <farmesh/result.hpp>

#include "base/bytes.hpp"
#include "base/types.hpp"
#include "wire/messages.hpp"

namespace farmesh::serve {

struct WorkerLimits {
  std::uint64_t cache_bytes = 0;        // KV memory; 0: as many pages as `cache_tokens` needs
  std::uint32_t cache_tokens = 16'384;  // over all sessions
  std::uint32_t max_sessions = 256;
  std::uint32_t max_batch_rows = 256;      // rows of one forward pass
  std::uint32_t max_step_rows = 1'024;     // rows of one step; larger ones are refused
  std::uint32_t window_steps = 16;         // queued steps of one session, then busy
  std::uint32_t max_queued_rows = 65'536;  // of all sessions, then busy
  std::chrono::minutes idle_timeout{60};   // a session untouched this long is closed
  std::chrono::seconds idle_grace{60};     // and earlier, after this, when others need its pages
};

struct StepWork {
  SessionId session;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;
  std::uint32_t count = 0;
  bool replay = false;                    // comes all at once: not bound by window_steps
  std::uint32_t groups = 0;               // as wire::Step has it
  std::uint32_t batch_rows = 0;           // of the batch it was in at the stage before; 0: none
  Payload input;                          // [count, hidden]
  TimePoint deadline = TimePoint::max();  // not begun by then: deadline_passed
};

struct StepOutput {
  Payload rows;  // [count, hidden]
  wire::HopTime time;
};

using StepDone = std::function<void(Result<StepOutput>)>;

}  // namespace farmesh::serve
