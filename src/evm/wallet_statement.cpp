#include "evm/wallet_statement.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include "base/digest.hpp"

namespace farmesh::evm {
namespace {

constexpr std::string_view kOpening =
    "FarMesh wallet statement, version 1\n"
    "\n"
    "What this node earns is to be paid to this wallet.\n"
    "\n";
constexpr std::string_view kClosing =
    "\n"
    "Signing this costs nothing, moves nothing and permits nothing else.";
constexpr std::string_view kSignature = "\n\nSignature: ";
constexpr std::size_t kMaxDomain = 253;

Error invalid(std::string why) { return {Errc::wallet_statement_invalid, std::move(why)}; }

bool is_domain(std::string_view text) {
  return !text.empty() && text.size() <= kMaxDomain && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

/// "2026-11-23T08:15:02Z", or nothing outside the years 1970 to 9999.
std::optional<std::string> date_text(std::chrono::sys_seconds date) {
  const auto day = std::chrono::floor<std::chrono::days>(date);
  const std::chrono::year_month_day ymd(day);
  const int year = static_cast<int>(ymd.year());
  if (year < 1970 || year > 9999) return std::nullopt;
  const std::chrono::hh_mm_ss time(date - day);
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", year,
                static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()));
  return text;
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  return failure == std::errc() && stop == end;
}

// Only near enough: whoever calls writes the date again and compares.
std::optional<std::chrono::sys_seconds> parse_date(std::string_view text) {
  if (text.size() != 20) return std::nullopt;
  int year = 0;
  unsigned month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!read_number(text.substr(0, 4), year) || !read_number(text.substr(5, 2), month) ||
      !read_number(text.substr(8, 2), day) || !read_number(text.substr(11, 2), hour) ||
      !read_number(text.substr(14, 2), minute) || !read_number(text.substr(17, 2), second)) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second);
}

/// Takes "Name: value\n" from the front of `rest`; empty when something else stands there.
std::string_view take_field(std::string_view& rest, std::string_view name) {
  const std::size_t end = rest.find('\n');
  if (end == std::string_view::npos || !rest.starts_with(name)) return {};
  const std::string_view value = rest.substr(name.size(), end - name.size());
  rest.remove_prefix(end + 1);
  return value;
}

}  // namespace

Result<std::string> statement_text(const WalletStatement& statement) {
  const std::optional<std::string> date = date_text(statement.date);
  if (!is_domain(statement.domain)) {
    return invalid("a domain is lower-case letters, digits, '-' and '.'");
  }
  if (statement.chain_id == 0 || !date || statement.wallet.is_zero() ||
      is_unknown(statement.node)) {
    return invalid("a statement without chain, node, wallet or date");
  }
  std::string text(kOpening);
  text += "Domain: " + statement.domain + '\n';
  text += "Chain: " + std::to_string(statement.chain_id) + '\n';
  text += "Node: " + farmesh::to_string(statement.node) + '\n';
  text += "Wallet: " + to_string(statement.wallet) + '\n';
  text += "Date: " + *date + '\n';
  text += "Nonce: " + to_hex(statement.nonce) + '\n';
  text += kClosing;
  return text;
}

Result<WalletStatement> parse_statement_text(std::string_view text) {
  const Error other = invalid("not the text of a wallet statement");
  if (text.size() > kMaxStatementBytes || !text.starts_with(kOpening)) return other;
  std::string_view rest = text.substr(kOpening.size());
  WalletStatement statement;
  statement.domain = take_field(rest, "Domain: ");
  const std::string_view chain = take_field(rest, "Chain: ");
  const Result<NodeId> node = parse_node_id(take_field(rest, "Node: "));
  const Result<Address> wallet = parse_address(take_field(rest, "Wallet: "));
  const std::optional<std::chrono::sys_seconds> date = parse_date(take_field(rest, "Date: "));
  const bool has_nonce = from_hex(take_field(rest, "Nonce: "), statement.nonce);
  if (!read_number(chain, statement.chain_id) || !node || !date || !has_nonce) return other;
  if (!wallet) return wallet.error();
  statement.node = *node;
  statement.wallet = *wallet;
  statement.date = *date;

  // One spelling only: what was read says the same words again.
  const Result<std::string> again = statement_text(statement);
  if (!again) return again.error();
  if (*again != text) return other;
  return statement;
}

Result<SignedStatement> parse_signed_statement(std::string_view text) {
  const std::size_t at = text.rfind(kSignature);
  if (text.size() > kMaxStatementBytes || at == std::string_view::npos || !text.ends_with('\n')) {
    return invalid("not a wallet statement with its signature");
  }
  const std::string_view words = text.substr(0, at);
  std::string_view hex = text.substr(at + kSignature.size());
  hex.remove_suffix(1);
  Result<WalletStatement> statement = parse_statement_text(words);
  if (!statement) return statement.error();
  const Result<Signature> signature = Signature::parse(hex);
  if (!signature) return signature.error();
  const Result<Address> by = recover(*signature, personal_digest(words));
  if (!by) return by.error();
  if (*by != statement->wallet) {
    return Error{
        Errc::wallet_signature_invalid,
        "the statement names " + to_string(statement->wallet) + ", but another wallet signed it"};
  }
  SignedStatement read{*std::move(statement), *signature};
  if (*signed_statement_text(read) != text) return invalid("a signature spelt in another way");
  return read;
}

Result<std::string> signed_statement_text(const SignedStatement& signed_statement) {
  Result<std::string> text = statement_text(signed_statement.statement);
  if (!text) return text;
  *text += kSignature;
  *text += to_hex0x(signed_statement.signature.to_bytes()) + '\n';
  return text;
}

Result<void> check_statement(const WalletStatement& statement,
                             const StatementExpectation& expected) {
  if (statement.domain != expected.domain) {
    return invalid("it is for the domain " + statement.domain + ", not " +
                   std::string(expected.domain));
  }
  if (statement.chain_id != expected.chain_id) {
    return invalid("it is for chain " + std::to_string(statement.chain_id) + ", not " +
                   std::to_string(expected.chain_id));
  }
  if (statement.node != expected.node) {
    return invalid("it is for the node " + short_name(statement.node) + ", not " +
                   short_name(expected.node));
  }
  if (statement.date > expected.now + expected.clock_tolerance) {
    return invalid("its date lies in the future");
  }
  return {};
}

}  // namespace farmesh::evm
