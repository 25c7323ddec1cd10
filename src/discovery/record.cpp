#include "discovery/record.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/digest.hpp"
#include "net/tcp_address.hpp"
#include "wire/messages.hpp"
#include "wire/text.hpp"

namespace farmesh::discovery {
namespace {

constexpr std::string_view kDomain = "farmesh record v1";
constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kLeaving = 1;  // bits of the flags
constexpr std::uint8_t kHead = 2;
constexpr std::uint8_t kRelays = 4;
constexpr std::size_t kSignatureBytes = std::tuple_size_v<identity::Signature>;

class Writer {
 public:
  template <class Number>
  void number(Number value) {
    const auto bits = static_cast<std::make_unsigned_t<Number>>(value);
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
      bytes_ += static_cast<char>(bits >> (8 * i) & 0xff);
    }
  }
  template <std::size_t N>
  void array(const std::array<std::uint8_t, N>& value) {
    bytes_.append(reinterpret_cast<const char*>(value.data()), N);
  }
  void text(const std::string& value) {  // at most 255 bytes, as its caller saw to
    number(static_cast<std::uint8_t>(value.size()));
    bytes_ += value;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what a Writer wrote. After the first thing that is not there everything reads as zero.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  bool good() const noexcept { return good_; }
  std::string_view left() const noexcept { return left_; }

  std::string_view take(std::size_t count) {
    if (left_.size() < count) {
      good_ = false;
      left_ = {};
      return {};
    }
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }
  template <class Number>
  Number number() {
    std::make_unsigned_t<Number> bits = 0;
    const std::string_view taken = take(sizeof(Number));
    for (std::size_t i = 0; i < taken.size(); ++i) {
      bits |= static_cast<std::make_unsigned_t<Number>>(
          static_cast<std::make_unsigned_t<Number>>(static_cast<std::uint8_t>(taken[i]))
          << (8 * i));
    }
    return static_cast<Number>(bits);
  }
  template <std::size_t N>
  std::array<std::uint8_t, N> array() {
    std::array<std::uint8_t, N> value{};
    const std::string_view taken = take(N);
    std::copy(taken.begin(), taken.end(), value.begin());
    return value;
  }
  std::string text(std::size_t max = kMaxNameBytes) {
    const auto length = number<std::uint8_t>();
    const std::string_view taken = take(length);
    if (taken.size() > max || !wire::is_printable(taken)) good_ = false;
    return std::string(taken);
  }

 private:
  std::string_view left_;
  bool good_ = true;
};

Sha256Digest statement_hash(ByteView statement) {
  return statement.empty() ? Sha256Digest{} : sha256(statement);
}

std::string body_of(const NodeRecord& record) {
  Writer out;
  out.number(kVersion);
  out.array(record.key);
  out.number(record.sequence);
  out.number(record.not_before_ms);
  out.number(record.expires_ms);
  out.number(static_cast<std::uint8_t>((record.leaving ? kLeaving : 0) | (record.head ? kHead : 0) |
                                       (record.relays ? kRelays : 0)));
  out.text(record.mesh);
  out.number(static_cast<std::uint8_t>(record.addresses.size()));
  for (const std::string& address : record.addresses) out.text(address);
  out.text(record.relay);
  out.text(record.software);
  out.text(record.place);
  out.text(record.model_id);
  out.array(record.model_hash.bytes);
  out.text(record.numerics_class);
  out.number(record.num_layers);
  out.number(record.span.begin);
  out.number(record.span.end);
  out.number(record.layer_us);
  out.number(record.bandwidth_kbps);
  out.number(record.queued_rows);
  out.number(record.free_tokens);
  out.number(record.sessions);
  out.array(statement_hash(std::as_bytes(std::span(record.wallet_statement))));
  return out.take();
}

struct Body {
  NodeRecord record;
  Sha256Digest statement{};
};

/// What follows the fields known here was added by a newer version, and is signed like the rest.
std::optional<Body> read_body(std::string_view bytes) {
  Reader in(bytes);
  Body body;
  NodeRecord& record = body.record;
  if (in.number<std::uint8_t>() != kVersion) return std::nullopt;
  record.key = in.array<32>();
  record.sequence = in.number<std::int64_t>();
  record.not_before_ms = in.number<std::int64_t>();
  record.expires_ms = in.number<std::int64_t>();
  const auto flags = in.number<std::uint8_t>();
  record.leaving = (flags & kLeaving) != 0;
  record.head = (flags & kHead) != 0;
  record.relays = (flags & kRelays) != 0;
  record.mesh = in.text();
  const auto addresses = in.number<std::uint8_t>();
  if (addresses > kMaxAddresses) return std::nullopt;
  for (int i = 0; i < addresses; ++i) record.addresses.push_back(in.text(kMaxAddressBytes));
  record.relay = in.text(kMaxAddressBytes);
  record.software = in.text();
  record.place = in.text();
  record.model_id = in.text();
  record.model_hash.bytes = in.array<32>();
  record.numerics_class = in.text();
  record.num_layers = in.number<std::uint32_t>();
  record.span.begin = in.number<std::uint32_t>();
  record.span.end = in.number<std::uint32_t>();
  record.layer_us = in.number<std::uint32_t>();
  record.bandwidth_kbps = in.number<std::uint32_t>();
  record.queued_rows = in.number<std::uint32_t>();
  record.free_tokens = in.number<std::uint32_t>();
  record.sessions = in.number<std::uint32_t>();
  body.statement = in.array<32>();
  if (!in.good()) return std::nullopt;
  return body;
}

/// A place of its own: nobody is dialled through two relays.
bool plausible_address(const std::string& address) {
  const auto parsed = net::parse_address(address);
  return parsed && parsed->port != 0 && parsed->relay.empty();
}

bool plausible_addresses(const NodeRecord& record) {
  if (record.addresses.empty() && record.relay.empty() && !record.leaving) return false;
  if (!record.relay.empty() && !plausible_address(record.relay)) return false;
  return std::all_of(record.addresses.begin(), record.addresses.end(), plausible_address);
}

bool plausible_span(const NodeRecord& record, const RecordExpectation& expected) {
  if (record.leaving) return true;
  const bool serves_model = record.model_hash != ModelHash{};
  if (!serves_model) return record.span.empty() && !record.head;
  if (record.num_layers == 0 || record.num_layers > wire::kMaxLayers) return false;
  if (expected.num_layers != 0 && record.model_hash == expected.model_hash &&
      record.num_layers != expected.num_layers) {
    return false;
  }
  if (record.span.begin > record.span.end || record.span.end > record.num_layers) return false;
  return !record.span.empty() || record.head;
}

std::optional<RecordFault> fault_in(const NodeRecord& record, const RecordExpectation& expected) {
  if (expected.id && record.id != *expected.id) return RecordFault::foreign_id;
  if (record.mesh != expected.mesh) return RecordFault::foreign_mesh;
  if (!plausible_addresses(record)) return RecordFault::malformed;
  if (!plausible_span(record, expected)) return RecordFault::absurd_span;
  // Compared without sums of a stranger's numbers, which might overflow.
  if (record.not_before_ms < 0 || record.expires_ms <= record.not_before_ms ||
      record.expires_ms - record.not_before_ms > kMaxLifetimeMs ||
      record.not_before_ms > expected.now_ms + kClockToleranceMs) {
    return RecordFault::clock_off;
  }
  if (record.expires_ms <= expected.now_ms) return RecordFault::expired;
  return std::nullopt;
}

Error unfit(const std::string& why) { return {Errc::invalid_argument, "node record: " + why}; }

}  // namespace

std::string_view name(RecordFault fault) noexcept {
  switch (fault) {
    case RecordFault::oversized: return "oversized";
    case RecordFault::malformed: return "malformed";
    case RecordFault::bad_signature: return "bad signature";
    case RecordFault::foreign_id: return "foreign id";
    case RecordFault::foreign_mesh: return "foreign mesh";
    case RecordFault::absurd_span: return "absurd span";
    case RecordFault::clock_off: return "clock off";
    case RecordFault::expired: return "expired";
  }
  return "?";
}

std::string dial_address(const NodeRecord& record) {
  if (!record.relay.empty()) return net::circuit_address(record.relay, record.id);
  if (record.addresses.empty()) return {};
  const std::string& address = record.addresses.front();
  return address.find("/p2p/") == std::string::npos ? address + "/p2p/" + to_string(record.id)
                                                    : address;
}

bool tells_of(const NodeRecord& record, const std::string& address) {
  const Result<net::HostPort> there = net::parse_address(address);
  // That another node does not answer there says nothing of this one.
  if (!there || (there->id && *there->id != record.id)) return false;
  const auto is_there = [&there](const std::string& told) {
    const Result<net::HostPort> place = net::parse_address(told);
    return place && place->host == there->host && place->port == there->port;
  };
  if (!there->relay.empty()) return !record.relay.empty() && is_there(record.relay);
  return std::any_of(record.addresses.begin(), record.addresses.end(), is_there);
}

std::string SignedRecord::item() const {
  if (record.wallet_statement.empty()) return bytes;
  std::string without = bytes.substr(0, bytes.size() - record.wallet_statement.size());
  without[without.size() - 2] = without[without.size() - 1] = '\0';  // its length
  return without;
}

Result<SignedRecord> sign_record(NodeRecord record, const identity::NodeKey& key) {
  record.key = key.public_key();
  record.id = key.id();
  const std::string* const names[] = {&record.mesh, &record.software, &record.place,
                                      &record.model_id, &record.numerics_class};
  for (const std::string* text : names) {
    if (text->size() > kMaxNameBytes) return unfit("'" + *text + "' is too long");
    if (!wire::is_printable(*text)) return unfit("text that cannot be printed");
  }
  if (record.addresses.size() > kMaxAddresses) return unfit("too many addresses");
  for (const std::string& address : record.addresses) {
    if (address.size() > kMaxAddressBytes) return unfit(address + " is too long");
  }
  if (record.relay.size() > kMaxAddressBytes) return unfit(record.relay + " is too long");
  if (!plausible_addresses(record)) return unfit("no address to be dialled at");
  if (record.wallet_statement.size() > kMaxStatementBytes) {
    return unfit("the wallet statement is too long");
  }
  const std::string body = body_of(record);
  if (body.size() > kMaxBodyBytes) return unfit(std::to_string(body.size()) + " bytes in all");

  Writer out;
  out.number(static_cast<std::uint16_t>(body.size()));
  std::string bytes = out.take() + body;
  out = Writer();
  out.array(key.sign(kDomain, as_view(body)));
  out.number(static_cast<std::uint16_t>(record.wallet_statement.size()));
  bytes += out.take();
  bytes.append(record.wallet_statement.begin(), record.wallet_statement.end());
  return SignedRecord{std::move(record), std::move(bytes)};
}

std::variant<SignedRecord, RecordFault> check_record(std::string_view bytes,
                                                     const RecordExpectation& expected) {
  if (bytes.size() > kMaxRecordBytes) return RecordFault::oversized;
  Reader in(bytes);
  const std::string_view body_bytes = in.take(in.number<std::uint16_t>());
  const identity::Signature signature = in.array<kSignatureBytes>();
  const std::string_view statement = in.take(in.number<std::uint16_t>());
  if (!in.good() || !in.left().empty()) return RecordFault::malformed;
  if (body_bytes.size() > kMaxBodyBytes || statement.size() > kMaxStatementBytes) {
    return RecordFault::oversized;
  }
  std::optional<Body> body = read_body(body_bytes);
  if (!body) return RecordFault::malformed;
  body->record.id = identity::node_id_of(body->record.key);

  // What costs nothing comes first: a flood of old or foreign records must not cost signatures.
  if (const auto fault = fault_in(body->record, expected)) return *fault;
  if (!statement.empty() && statement_hash(as_view(statement)) != body->statement) {
    return RecordFault::bad_signature;
  }
  if (!identity::verify(body->record.key, kDomain, as_view(body_bytes), signature)) {
    return RecordFault::bad_signature;
  }
  body->record.wallet_statement.assign(statement.begin(), statement.end());
  return SignedRecord{std::move(body->record), std::string(bytes)};
}

}  // namespace farmesh::discovery
