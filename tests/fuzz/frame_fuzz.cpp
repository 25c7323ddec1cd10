// Any bytes as a frame, and its header as each message its verb may carry. What is accepted must
// come back the same after another trip through the codec.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/assert.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"
#include "wire/reach.hpp"
#include "wire/row_codec.hpp"
#include "wire/swarm.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::wire;

template <class Message>
void try_decode(const Frame& frame) {
  const Result<Message> message = decode<Message>(frame.header);
  if (!message) {
    FARMESH_ASSERT(message.error().code == Errc::bad_header);
    return;
  }
  const HeaderBytes once = encode(*message);
  const Result<Message> again = decode<Message>(once);
  FARMESH_ASSERT(again.has_value());
  FARMESH_ASSERT(encode(*again) == once);
}

void try_verb(const Frame& frame) {
  switch (frame.verb) {
    case Verb::hello: return try_decode<Hello>(frame);
    case Verb::open: return frame.reply ? try_decode<OpenReply>(frame) : try_decode<Open>(frame);
    case Verb::step: return frame.reply ? try_decode<StepReply>(frame) : try_decode<Step>(frame);
    case Verb::truncate: return try_decode<Truncate>(frame);
    case Verb::replay: return try_decode<Replay>(frame);
    case Verb::history:
      return frame.reply ? try_decode<HistoryReply>(frame) : try_decode<HistoryQuery>(frame);
    case Verb::close: return try_decode<Close>(frame);
    case Verb::ping: return frame.reply ? try_decode<Pong>(frame) : try_decode<Ping>(frame);
    case Verb::error: return try_decode<ErrorMessage>(frame);
    case Verb::generate: return try_decode<Generate>(frame);
    case Verb::token: return try_decode<TokenMessage>(frame);
    case Verb::swarm: return frame.reply ? try_decode<SwarmReply>(frame) : try_decode<Swarm>(frame);
    case Verb::reach: return frame.reply ? try_decode<ReachReply>(frame) : try_decode<Reach>(frame);
    case Verb::relay: return frame.reply ? try_decode<RelayReply>(frame) : try_decode<Relay>(frame);
    case Verb::receipt: return;
  }
}

/// Rows in blocks that are taken are finite, and can be packed again.
void try_rows(ByteView packed, std::uint32_t columns, DType residual) {
  const auto count = static_cast<std::uint32_t>(packed.size() / packed_row_bytes(columns));
  const Result<Payload> rows = unpack_rows(packed, count, columns, residual);
  if (!rows) return;
  FARMESH_ASSERT(check_finite(rows->view(), residual).has_value());
  const Result<Payload> again = pack_rows(rows->view(), columns, residual);
  FARMESH_ASSERT(again.has_value() && again->size() == packed.size());
}

}  // namespace

// libFuzzer chose the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(reinterpret_cast<const std::byte*>(data), size);
  const Result<Frame> frame = decode_frame(bytes);
  if (!frame) return 0;
  FARMESH_ASSERT(std::ranges::equal(encode_frame(*frame), bytes));
  try_verb(*frame);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i8}) {
    static_cast<void>(check_finite(frame->payload.view(), dtype));
  }
  for (const std::uint32_t columns : {1U, 31U, 64U, 70U}) {
    try_rows(frame->payload.view(), columns, DType::f32);
    try_rows(frame->payload.view(), columns, DType::bf16);
  }
  return 0;
}
