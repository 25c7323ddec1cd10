#include "identity/join_token.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/digest.hpp"
#include "base/secret_file.hpp"

namespace farmesh::identity {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::string_view kTextStart = "farmesh-join-";
constexpr std::string_view kInvitationDomain = "farmesh invitation v1";
constexpr std::string_view kPassDomain = "farmesh join pass v1";

using Bytes = std::vector<std::uint8_t>;
using Input = std::span<const std::uint8_t>;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxMeshName &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

void put(Bytes& out, Input bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

// Takes bytes from the front; after a failure everything fails.
class Cutter {
 public:
  explicit Cutter(Input input) : rest_(input) {}

  void cut(std::span<std::uint8_t> out) {
    if (rest_.size() < out.size()) failed_ = true;
    if (failed_) return;
    std::copy_n(rest_.begin(), out.size(), out.begin());
    rest_ = rest_.subspan(out.size());
  }
  std::uint8_t cut_byte() {
    std::uint8_t byte = 0;
    cut({&byte, 1});
    return byte;
  }
  bool failed() const noexcept { return failed_; }
  bool at_end() const noexcept { return !failed_ && rest_.empty(); }

 private:
  Input rest_;
  bool failed_ = false;
};

// The part that the mesh signs.
Bytes unsigned_bytes(const Invitation& invitation) {
  Bytes out{kVersion};
  put(out, invitation.mesh);
  const auto expires = static_cast<std::uint64_t>(invitation.expires.time_since_epoch().count());
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<std::uint8_t>(expires >> (8 * i)));
  put(out, invitation.holder);
  out.push_back(static_cast<std::uint8_t>(invitation.mesh_name.size()));
  out.insert(out.end(), invitation.mesh_name.begin(), invitation.mesh_name.end());
  return out;
}

Bytes encode(const Invitation& invitation) {
  Bytes out = unsigned_bytes(invitation);
  put(out, invitation.signature);
  return out;
}

std::optional<Invitation> cut_invitation(Cutter& in) {
  Invitation invitation;
  const std::uint8_t version = in.cut_byte();
  in.cut(invitation.mesh);
  std::uint64_t expires = 0;
  for (int i = 0; i < 8; ++i) expires |= std::uint64_t{in.cut_byte()} << (8 * i);
  invitation.expires = std::chrono::sys_seconds(
      std::chrono::seconds(static_cast<std::int64_t>(expires & (~std::uint64_t{0} >> 1))));
  in.cut(invitation.holder);
  std::array<std::uint8_t, kMaxMeshName> name{};
  const std::size_t length = in.cut_byte();
  if (version != kVersion || length > name.size() || expires >> 63 != 0) return std::nullopt;
  in.cut(std::span(name).first(length));
  invitation.mesh_name.assign(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(length));
  in.cut(invitation.signature);
  if (in.failed() || !is_name(invitation.mesh_name)) return std::nullopt;
  return invitation;
}

bool is_signed(const Invitation& invitation) {
  const Bytes bytes = unsigned_bytes(invitation);
  return verify(invitation.mesh, kInvitationDomain, std::as_bytes(std::span(bytes)),
                invitation.signature);
}

Error not_a_token() { return {Errc::config_invalid, "this is no join token, or a damaged one"}; }

}  // namespace

JoinToken::JoinToken(Invitation invitation, std::span<const std::uint8_t, 32> seed)
    : invitation_(std::move(invitation)), holder_(NodeKey::from_seed(seed)) {
  std::copy(seed.begin(), seed.end(), seed_.begin());
}

Result<JoinToken> JoinToken::make(const NodeKey& mesh_key, std::string mesh_name,
                                  std::chrono::sys_seconds expires) {
  if (!is_name(mesh_name)) {
    return {Errc::invalid_argument, "a mesh's name has 1 to 64 printable ASCII characters"};
  }
  std::array<std::uint8_t, 32> seed;
  random_bytes(seed);
  Invitation invitation;
  invitation.mesh = mesh_key.public_key();
  invitation.expires = expires;
  invitation.holder = NodeKey::from_seed(seed).public_key();
  invitation.mesh_name = std::move(mesh_name);
  const Bytes bytes = unsigned_bytes(invitation);
  invitation.signature = mesh_key.sign(kInvitationDomain, std::as_bytes(std::span(bytes)));
  return JoinToken(std::move(invitation), seed);
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.remove_suffix(1);
  }
  if (!text.starts_with(kTextStart) || text.size() > kTextStart.size() + 2 * kMaxPassBytes) {
    return not_a_token();
  }
  text.remove_prefix(kTextStart.size());
  Bytes bytes(text.size() / 2);
  if (!from_hex(text, bytes)) return not_a_token();
  Cutter in(bytes);
  std::optional<Invitation> invitation = cut_invitation(in);
  std::array<std::uint8_t, 32> seed{};
  in.cut(seed);
  if (!invitation || !in.at_end() || !is_signed(*invitation)) return not_a_token();
  JoinToken token(*std::move(invitation), seed);
  if (token.holder_.public_key() != token.invitation_.holder) return not_a_token();
  return token;
}

Result<JoinToken> JoinToken::load(const std::filesystem::path& file) {
  const Result<std::string> text = read_secret_file(file);
  if (!text) return text.error();
  Result<JoinToken> token = parse(*text);
  if (!token) return {token.error().code, file.string() + ": " + token.error().detail};
  return token;
}

std::string JoinToken::to_text() const {
  Bytes bytes = encode(invitation_);
  put(bytes, seed_);
  return std::string(kTextStart) + to_hex(bytes);
}

std::vector<std::uint8_t> JoinToken::pass_for(const NodeId& node) const {
  Bytes pass = encode(invitation_);
  put(pass, holder_.sign(kPassDomain, std::as_bytes(std::span(node))));
  return pass;
}

Membership::Membership(const JoinToken& token, const NodeId& self)
    : invitation_(token.invitation()), pass_(token.pass_for(self)) {}

Result<void> Membership::admit(std::span<const std::uint8_t> pass, const NodeId& remote,
                               std::chrono::sys_seconds now) const {
  const std::string mesh = "mesh \"" + invitation_.mesh_name + "\"";
  if (pass.empty()) {
    return {Errc::join_refused, mesh + " is private, and no join token was shown"};
  }
  Cutter in(pass);
  const std::optional<Invitation> shown = cut_invitation(in);
  Signature proof{};
  in.cut(proof);
  if (!shown || !in.at_end()) return {Errc::join_refused, "what was shown is no join token"};
  if (shown->mesh != invitation_.mesh) {
    return {Errc::join_refused,
            "the join token is for another mesh, \"" + shown->mesh_name + "\", not for " + mesh};
  }
  if (!is_signed(*shown)) return {Errc::join_refused, "the join token was not made by " + mesh};
  if (shown->expires + kClockTolerance < now) {
    return {Errc::join_refused, "the join token for " + mesh + " has expired"};
  }
  if (!verify(shown->holder, kPassDomain, std::as_bytes(std::span(remote)), proof)) {
    return {Errc::join_refused, "the join token was shown by a node that does not hold it"};
  }
  return {};
}

}  // namespace farmesh::identity
