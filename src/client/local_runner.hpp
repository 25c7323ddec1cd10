// Turns of a session whose generation loop runs in this process, around a head that is here.
//
// Used by conversation.hpp and, for clients without a head, by node/'s generate service.
// Threading: network thread.
#pragma once

#include <functional>
#include <optional>

#include "client/gated_head.hpp"
#include "client/shared_model.hpp"
#include "client/turn_runner.hpp"
#include "driver/generator.hpp"

namespace farmesh::client {

class LocalRunner final : public TurnRunner {
 public:
  /// `is_open` as GatedHead has it. `model` and `head` outlive the runner.
  LocalRunner(const SharedModel& model, wire::Head& head, std::uint32_t context_tokens,
              std::function<bool()> is_open, RouteWishes wishes = {});

  net::Task<Result<wire::Finish>> run(TurnInput input, driver::OnToken on_token) override;
  void cancel() override;
  void poke() override;
  std::uint32_t recoveries() const override;
  std::vector<driver::CommittedRows> committed() const override;

 private:
  const SharedModel& model_;
  GatedHead head_;
  const std::uint32_t context_tokens_;
  const RouteWishes wishes_;
  std::optional<driver::Generator> generator_;
  std::shared_ptr<driver::Bill> bill_;  // that pays for what the generator does
  std::shared_ptr<const driver::NodeChoice> nodes_;
  std::uint32_t recoveries_ = 0;  // of the generators before this one
};

}  // namespace farmesh::client
