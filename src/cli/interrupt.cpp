#include "cli/interrupt.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cli/exit_code.hpp"

namespace farmesh::cli {

Interrupt::Interrupt() : signals_([this](int) { on_signal(); }) {}

void Interrupt::on_signal() {
  const std::lock_guard lock(mutex_);
  if (const auto cancel = std::exchange(cancel_, nullptr)) {
    cancel();
    return;
  }
  std::fputs("\n", stderr);
  std::_Exit(kInterrupted);
}

Interrupt::Scope::Scope(Interrupt& interrupt, std::function<void()> cancel)
    : interrupt_(interrupt) {
  const std::lock_guard lock(interrupt_.mutex_);
  interrupt_.cancel_ = std::move(cancel);
}

Interrupt::Scope::~Scope() {
  const std::lock_guard lock(interrupt_.mutex_);
  interrupt_.cancel_ = nullptr;
}

}  // namespace farmesh::cli
