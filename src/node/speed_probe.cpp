#include "node/speed_probe.hpp"

#include <cstddef>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "node/measured_engine.hpp"
#include "serve/step.hpp"
#include "wire/messages.hpp"

namespace farmesh::node {
namespace {

// The first pass touches weights and caches for the first time; it has two rows, so that it does
// not count (measured_engine.hpp).
constexpr std::uint32_t kWarmingRows = 2;
constexpr std::uint32_t kMeasuredRows = LayerSpeed::kFirstPasses;

}  // namespace

void probe_speed(serve::Worker& worker, net::Runtime& runtime) {
  const model::EngineInfo& info = worker.info();
  if (info.blocks.empty()) return;
  wire::Open open;
  random_bytes(open.session.bytes);
  open.epoch = 1;
  open.span = info.blocks;
  open.max_positions = kWarmingRows + kMeasuredRows;
  const std::size_t row_bytes = std::size_t{info.hidden_size} * bytes_of(info.residual);
  const auto ended = std::make_shared<std::promise<void>>();
  const auto left = std::make_shared<std::uint32_t>(0);
  const auto note = [left, ended](const Result<serve::StepOutput>& result) {
    if (!result) log(LogLevel::warning, "node", "measuring: " + result.error().to_string());
    if (--*left == 0) ended->set_value();
  };
  runtime.run_blocking([&] {
    const auto opened = worker.open(open, {});
    std::uint32_t position = 0;
    ++*left;  // of this function
    while (opened && position < open.max_positions) {
      serve::StepWork step;
      step.session = open.session;
      step.epoch = open.epoch;
      step.position = position;
      step.count = position == 0 ? kWarmingRows : 1;
      const std::vector<std::byte> zeros(step.count * row_bytes);
      step.input = Payload::copy_of(zeros);
      position += step.count;
      if (!worker.step(std::move(step), note)) break;
      ++*left;
    }
    if (--*left == 0) ended->set_value();
  });
  ended->get_future().wait();
  runtime.run_blocking([&] { worker.close(open.session); });
}

}  // namespace farmesh::node
