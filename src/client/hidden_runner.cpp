#include "client/hidden_runner.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/digest.hpp"

namespace farmesh::client {
namespace {

constexpr std::uint32_t kSpareRows = 256;  // promised ahead, so that not every run asks for more

}  // namespace

HiddenRunner::HiddenRunner(const SharedModel& model, const SessionOptions& options)
    : model_(model),
      context_tokens_(model.context_of(options.context_tokens)),
      row_bytes_(std::size_t{model.hidden_size} * bytes_of(model.residual)) {
  random_bytes(options_.session.bytes);
  options_.num_layers = model.num_layers;
  options_.hidden_size = model.hidden_size;
  options_.residual = model.residual;
  options_.warm_standby = options.warm_standby;
  options_.activations = options.activations;
}

net::Task<Result<Payload>> HiddenRunner::run(std::shared_ptr<HiddenRunner> self, Payload rows,
                                             std::uint32_t count) {
  HiddenRunner& runner = *self;
  if (runner.running_) co_return Error{Errc::busy, "the run before this one is not over"};
  const std::uint32_t from = runner.positions_;
  if (count > runner.context_tokens_ - from) {
    co_return Error{Errc::context_exceeded, std::to_string(from) + " and " + std::to_string(count) +
                                                " rows do not fit the context of " +
                                                std::to_string(runner.context_tokens_)};
  }
  runner.running_ = true;
  runner.cancelled_ = false;
  runner.given_.push_back({from, from + count, std::move(rows)});
  auto computing = runner.compute(from, count);
  Result<Payload> computed = co_await std::move(computing);
  if (computed) {
    runner.positions_ = from + count;
  } else {
    runner.given_.pop_back();
    runner.close_chain();  // the next run begins on fresh ground
  }
  runner.running_ = false;
  co_return computed;
}

net::Task<Result<Payload>> HiddenRunner::compute(std::uint32_t from, std::uint32_t count) {
  const Error ended{Errc::cancelled, "the run was cancelled"};  // and the chain is gone
  auto preparing = prepare(from + count);
  const Result<void> prepared = co_await std::move(preparing);
  if (cancelled_) co_return ended;
  if (!prepared) co_return prepared.error();
  if (const std::uint32_t at = chain_->positions(); at < from) {
    // A new chain, behind rows that another one computed.
    auto repeating = chain_->step(at, from - at, wire::Want::nothing);
    const Result<Payload> repeated = co_await std::move(repeating);
    if (cancelled_) co_return ended;
    if (!repeated) co_return repeated.error();
  }
  auto stepping = chain_->step(from, count, wire::Want::all_rows);
  Result<Payload> rows = co_await std::move(stepping);
  if (cancelled_) co_return ended;
  co_return rows;
}

/// Opens the chain, or asks its peers for room up to `end`.
net::Task<Result<void>> HiddenRunner::prepare(std::uint32_t end) {
  if (chain_ && end <= promised_) co_return Result<void>();
  promised_ = std::min(context_tokens_, end + kSpareRows);
  if (chain_) {
    auto extending = chain_->extend(promised_, {});
    const Result<void> extended = co_await std::move(extending);
    co_return extended;
  }
  options_.max_positions = promised_;
  driver::Chain::Inputs inputs = [weak = weak_from_this()](std::uint32_t from,
                                                           std::uint32_t count) {
    return given(weak.lock(), from, count);
  };
  chain_.emplace(*model_.peers, std::move(inputs), options_);
  auto opening = chain_->open();
  const Result<std::uint32_t> opened = co_await std::move(opening);
  if (!opened) co_return opened.error();
  co_return Result<void>();
}

/// The rows [from, from + count), which are copied only where they came from several runs.
net::Task<Result<Payload>> HiddenRunner::given(std::shared_ptr<HiddenRunner> self,
                                               std::uint32_t from, std::uint32_t count) {
  if (!self) co_return Error{Errc::cancelled, {}};
  const std::vector<Given>& all = self->given_;
  const std::size_t row = self->row_bytes_;
  // A spare may still be filled with rows that were forgotten since.
  if (all.empty() || from + count > all.back().end) {
    co_return Error{Errc::position_gap, "positions that are no longer of the session"};
  }
  auto part = std::upper_bound(all.begin(), all.end(), from,
                               [](std::uint32_t at, const Given& one) { return at < one.end; });
  if (from + count <= part->end) {
    co_return part->rows.slice((from - part->begin) * row, count * row);
  }
  AlignedBuffer whole(count * row);
  for (std::uint32_t done = 0; done < count; ++part) {
    const std::uint32_t at = from + done - part->begin;
    const std::uint32_t rows = std::min(count - done, part->end - part->begin - at);
    std::memcpy(whole.data() + done * row, part->rows.view().data() + at * row, rows * row);
    done += rows;
  }
  co_return Payload(std::move(whole));
}

Result<void> HiddenRunner::truncate(std::uint32_t position) {
  if (running_) return {Errc::busy, "rows are run just now"};
  if (position > positions_) {
    return {Errc::invalid_argument,
            "there are " + std::to_string(positions_) + " rows, not " + std::to_string(position)};
  }
  positions_ = position;
  while (!given_.empty() && given_.back().begin >= position) given_.pop_back();
  if (!given_.empty() && given_.back().end > position) {
    Given& last = given_.back();
    last.end = position;
    last.rows = last.rows.slice(0, (position - last.begin) * row_bytes_);
  }
  if (chain_) chain_->truncate(position);
  return {};
}

void HiddenRunner::cancel() {
  cancelled_ = true;
  close_chain();
}

void HiddenRunner::close_chain() {
  if (!chain_) return;
  chain_->close();
  options_.first_epoch = chain_->epoch() + 1;
  chain_.reset();
}

std::vector<HopUsage> HiddenRunner::hops() const {
  std::vector<HopUsage> hops;
  if (!chain_) return hops;
  for (const driver::HopReport& hop : chain_->hops()) {
    const auto us = std::uint64_t{hop.time.queue_us} + hop.time.compute_us;
    hops.push_back({hop.address, hop.span, double(us) / 1e3});
  }
  return hops;
}

}  // namespace farmesh::client
