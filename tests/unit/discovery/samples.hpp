// Records to test with: what a node would say of itself.
#pragma once

#include <cstdint>
#include <string>

#include "discovery/record.hpp"

namespace farmesh::test {

inline constexpr std::int64_t kNowMs = 1'795'000'000'000;  // Unix time

inline identity::NodeKey key_of(std::uint8_t number) {
  std::array<std::uint8_t, 32> seed{};
  seed.fill(number);
  return identity::NodeKey::from_seed(seed);
}

inline ModelHash some_model() {
  ModelHash hash;
  hash.bytes.fill(7);
  return hash;
}

inline discovery::NodeRecord some_record(Span span = {0, 4}) {
  discovery::NodeRecord record;
  record.sequence = 5;
  record.not_before_ms = kNowMs;
  record.expires_ms = kNowMs + 120'000;
  record.addresses = {"10.0.0.7:31330"};
  record.software = "farmesh 0.1.0";
  record.place = "eu-west";
  record.model_id = "stories";
  record.model_hash = some_model();
  record.numerics_class = "bf16/exact-1/fma";
  record.num_layers = 12;
  record.span = span;
  record.layer_us = 310;
  record.free_tokens = 16'384;
  return record;
}

inline discovery::SignedRecord signed_by(std::uint8_t number, discovery::NodeRecord record) {
  auto made = discovery::sign_record(std::move(record), key_of(number));
  return *std::move(made);
}

inline discovery::RecordExpectation expectation() {
  discovery::RecordExpectation expected;
  expected.now_ms = kNowMs;
  expected.model_hash = some_model();
  expected.num_layers = 12;
  return expected;
}

}  // namespace farmesh::test
