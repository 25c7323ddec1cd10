// The public HiddenSession, and the head's two ends: a thin handle that checks what it is given and
// waits for the network thread.
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include <farmesh/hidden_session.hpp>

#include "client/hidden_runner.hpp"
#include "client/network_held.hpp"
#include "client/session_factory.hpp"
#include "net/event.hpp"
#include "wire/messages.hpp"

namespace farmesh {
namespace {

constexpr std::uint32_t kMaxLogitsRows = 256;

Rows rows_of(Payload payload, DType dtype, std::uint32_t count, std::uint32_t columns) {
  auto owner = std::make_shared<const Payload>(std::move(payload));
  const std::span<const std::byte> bytes = owner->view();
  return {dtype, count, columns, bytes, std::move(owner)};
}

/// The same memory as a payload, if it is what the model's layers take and give.
Result<Payload> payload_of(const Rows& rows, const client::SharedModel& model) {
  const bool right = rows.dtype == model.residual && rows.columns == model.hidden_size;
  if (!right || rows.count == 0) {
    return {Errc::invalid_argument,
            "hidden states of this model are [n, " + std::to_string(model.hidden_size) + "] of " +
                std::string(name(model.residual)) + ", not [" + std::to_string(rows.count) + ", " +
                std::to_string(rows.columns) + "] of " + std::string(name(rows.dtype))};
  }
  const auto at = reinterpret_cast<std::uintptr_t>(rows.bytes.data());
  const bool as_it_is = rows.owner != nullptr && at % bytes_of(rows.dtype) == 0;
  Payload payload = as_it_is ? Payload(rows.owner, rows.bytes) : Payload::copy_of(rows.bytes);
  Result<void> good = wire::check_tensor(payload, rows.count, rows.columns, rows.dtype);
  if (good) good = wire::check_finite(payload.view(), rows.dtype);
  if (!good) return {Errc::invalid_argument, good.error().detail};
  return payload;
}

/// Whether there is a head here, which all of this needs.
Result<void> check_head(const client::SharedModel& model) {
  if (model.head != nullptr) return {};
  return {Errc::unsupported, "the head is on a peer, and so are the hidden states"};
}

/// What `ask` makes the head answer. On the caller's thread.
template <class T>
Result<T> ask_head(const client::SharedModel& model,
                   std::function<void(std::function<void(Result<T>)>)> ask) {
  std::function<net::Task<Result<T>>()> task = [&model, ask = std::move(ask)] {
    return net::await_callback<Result<T>>(model.runtime->clock(), ask);
  };
  return model.runtime->await_blocking<Result<T>>(std::move(task));
}

}  // namespace

struct HiddenSession::Impl {
  client::NetworkHeld<client::HiddenRunner> runner;
};

HiddenSession::HiddenSession(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
HiddenSession::HiddenSession(HiddenSession&&) noexcept = default;
HiddenSession& HiddenSession::operator=(HiddenSession&&) noexcept = default;
HiddenSession::~HiddenSession() = default;

Result<Rows> HiddenSession::run(Rows input) {
  if (const Result<void> usable = impl_->runner.guard().check(); !usable) return usable.error();
  const client::SharedModel& model = impl_->runner.model();
  Result<Payload> given = payload_of(input, model);
  if (!given) return given.error();
  std::function<net::Task<Result<Payload>>()> task = [&, count = input.count] {
    return client::HiddenRunner::run(impl_->runner.shared(), *std::move(given), count);
  };
  Result<Payload> rows = model.runtime->await_blocking<Result<Payload>>(std::move(task));
  if (!rows) return rows.error();
  return rows_of(*std::move(rows), input.dtype, input.count, input.columns);
}

std::uint32_t HiddenSession::position() const noexcept { return impl_->runner->positions(); }

Result<void> HiddenSession::truncate(std::uint32_t position) {
  if (const Result<void> usable = impl_->runner.guard().check(); !usable) return usable;
  Result<void> done;
  impl_->runner.model().runtime->run_blocking(
      [&] { done = impl_->runner.shared()->truncate(position); });
  return done;
}

void HiddenSession::cancel() {
  if (impl_->runner.guard().forked()) return;
  impl_->runner.post([](client::HiddenRunner& runner) { runner.cancel(); });
}

std::vector<HopUsage> HiddenSession::hops() const {
  std::vector<HopUsage> hops;
  if (impl_->runner.guard().forked()) return hops;
  impl_->runner.model().runtime->run_blocking([&] { hops = impl_->runner->hops(); });
  return hops;
}

// --- making --------------------------------------------------------------------------------------

Result<HiddenSession> client::make_hidden_session(std::shared_ptr<const SharedModel> model,
                                                  const SessionOptions& options) {
  if (const Result<void> head = check_head(*model); !head) return head.error();
  auto runner = std::make_shared<HiddenRunner>(*model, options);
  NetworkHeld<HiddenRunner> held(std::move(model), std::move(runner));
  return HiddenSession(
      std::unique_ptr<HiddenSession::Impl>(new HiddenSession::Impl{std::move(held)}));
}

Result<Rows> client::embed(const SharedModel& model, const std::vector<TokenId>& ids) {
  if (const Result<void> head = check_head(model); !head) return head.error();
  if (ids.empty()) return {Errc::invalid_argument, "there are no token ids"};
  if (ids.size() > model.context_tokens) {
    return {Errc::context_exceeded, std::to_string(ids.size()) + " tokens, and the context is " +
                                        std::to_string(model.context_tokens)};
  }
  for (const TokenId id : ids) {
    if (id < model.vocab_size) continue;
    return {Errc::invalid_argument,
            "token id " + std::to_string(id) + " is outside the vocabulary"};
  }
  Result<Payload> rows = ask_head<Payload>(model, [&](std::function<void(Result<Payload>)> done) {
    model.head->embed(ids, std::move(done));
  });
  if (!rows) return rows.error();
  return rows_of(*std::move(rows), model.residual, std::uint32_t(ids.size()), model.hidden_size);
}

Result<Rows> client::logits(const SharedModel& model, const Rows& hidden) {
  if (const Result<void> head = check_head(model); !head) return head.error();
  if (hidden.count > kMaxLogitsRows) {
    return {Errc::invalid_argument, "logits of at most " + std::to_string(kMaxLogitsRows) +
                                        " rows at once, not " + std::to_string(hidden.count)};
  }
  const Result<Payload> given = payload_of(hidden, model);
  if (!given) return given.error();
  using Floats = std::vector<float>;
  Result<Floats> logits = ask_head<Floats>(model, [&](std::function<void(Result<Floats>)> done) {
    model.head->logits(*given, hidden.count, std::move(done));
  });
  if (!logits) return logits.error();
  auto owner = std::make_shared<const Floats>(*std::move(logits));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(*owner));
  return Rows{DType::f32, hidden.count, model.vocab_size, bytes, std::move(owner)};
}

}  // namespace farmesh
