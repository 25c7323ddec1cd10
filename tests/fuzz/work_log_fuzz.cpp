// A step log out of a database that somebody may have written to: refused, or settled so that the
// shares sum up.
#include <cstddef>
#include <cstdint>

#include "base/assert.hpp"
#include "ledger/work_log.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farmesh;
  const auto log = ledger::decode_work({reinterpret_cast<const char*>(data), size});
  if (!log) return 0;
  for (const SplitPolicy split : {SplitPolicy::layer_units, SplitPolicy::equal}) {
    const auto settled =
        ledger::settle(*log, {Far::from_units(10'000), Far::from_units(7), 250, split});
    FARMESH_ASSERT(settled.has_value());
    std::uint64_t tokens = 0;
    for (const ledger::Payout& payout : settled->payouts) tokens += payout.tokens;
    FARMESH_ASSERT(tokens == log->output_tokens());
  }
  const auto again = ledger::decode_work(ledger::encode_work(*log));
  FARMESH_ASSERT(again && *again == *log);
  return 0;
}
