#include "evm/json_rpc.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "evm/abi.hpp"

namespace farmesh::evm {
namespace {

constexpr std::size_t kMaxDetail = 200;
constexpr std::string_view kErrorString = "0x08c379a0";  // selector of Error(string)
constexpr std::size_t kMaxRevertBytes = 16 * 1024;

/// The chain has spoken; another endpoint would say the same.
bool is_final(Errc code) {
  return code == Errc::call_reverted || code == Errc::nonce_taken || code == Errc::fee_too_low ||
         code == Errc::funds_insufficient || code == Errc::transaction_known ||
         code == Errc::cancelled;
}

Error malformed(const char* why) { return {Errc::chain_answer_malformed, why}; }

// Words of strangers end in logs and terminals.
std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kMaxDetail));
  std::ranges::replace_if(
      clean, [](char c) { return c < ' ' || c > '~'; }, '?');
  return clean;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

struct Phrase {
  std::string_view words;
  Errc meaning;
};

// JSON-RPC has no codes for these: the nodes' own words are all there is. The order matters.
constexpr std::array kPhrases = {
    Phrase{"already known", Errc::transaction_known},
    Phrase{"alreadyknown", Errc::transaction_known},
    Phrase{"known transaction", Errc::transaction_known},
    Phrase{"already imported", Errc::transaction_known},
    Phrase{"nonce too low", Errc::nonce_taken},
    Phrase{"oldnonce", Errc::nonce_taken},
    Phrase{"underpriced", Errc::fee_too_low},
    Phrase{"less than block base fee", Errc::fee_too_low},
    Phrase{"fee too low", Errc::fee_too_low},
    Phrase{"feetoolow", Errc::fee_too_low},
    Phrase{"insufficient funds", Errc::funds_insufficient},
    Phrase{"insufficientfunds", Errc::funds_insufficient},
    Phrase{"execution reverted", Errc::call_reverted},
    Phrase{"revert", Errc::call_reverted},
};

// Error(string) in words; the first bytes of any other error, which name it.
std::string revert_reason(const Json& error) {
  const auto found = error.find("data");
  if (found == error.end() || !found->is_string()) return {};
  const std::string& data = found->get_ref<const std::string&>();
  const Result<Bytes> bytes = parse_hex0x(data, kMaxRevertBytes);
  if (!bytes || bytes->size() < 4) return {};
  if (data.starts_with(kErrorString)) {
    const Result<AbiValue::Members> values = decode_abi("(string)", BytesView(*bytes).subspan(4));
    if (values) return (*values)[0].text();
  }
  return "error " + data.substr(0, 10);
}

Result<void> expect_chain(const Json& result, std::uint64_t expected) {
  if (!result.is_string()) return malformed("a chain id that is no text");
  const Result<U256> id = U256::parse_quantity(result.get_ref<const std::string&>());
  if (!id) return malformed("a chain id that is no number");
  if (*id == U256(expected)) return {};
  return Error{Errc::chain_mismatch,
               "serves chain " + id->to_decimal() + ", not " + std::to_string(expected)};
}

}  // namespace

std::string host_of(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find_first_of("/?#"));
  const std::size_t user = url.rfind('@');
  if (user != std::string_view::npos) url.remove_prefix(user + 1);
  return printable(url);
}

Error read_rpc_error(const Json& error) {
  if (!error.is_object()) return malformed("an error that is no object");
  const auto code = error.find("code");
  const auto message = error.find("message");
  if (code == error.end() || !code->is_number_integer() || message == error.end() ||
      !message->is_string()) {
    return malformed("an error without code and message");
  }
  const std::string& words = message->get_ref<const std::string&>();
  const std::string number = code->dump();
  Errc meaning = number == "3" ? Errc::call_reverted : Errc::chain_refused;
  if (meaning == Errc::chain_refused) {
    const std::string plain = lower(std::string_view(words).substr(0, 1'000));
    const auto phrase = std::ranges::find_if(kPhrases, [&plain](const Phrase& known) {
      return plain.find(known.words) != std::string::npos;
    });
    if (phrase != kPhrases.end()) meaning = phrase->meaning;
  }
  std::string detail = printable(words);
  if (meaning == Errc::chain_refused) detail = number + ": " + detail;
  if (meaning == Errc::call_reverted) {
    const std::string reason = printable(revert_reason(error));
    if (detail.find(reason) == std::string::npos) detail += ": " + reason;
  }
  return {meaning, std::move(detail)};
}

JsonRpc::JsonRpc(const RpcOptions& options, HttpPost post)
    : chain_id_(options.chain_id),
      rest_(options.rest),
      now_(options.now ? options.now : [] { return std::chrono::steady_clock::now(); }),
      post_(std::move(post)) {
  for (const std::string& url : options.endpoints) {
    endpoints_.push_back({.url = url, .host = host_of(url)});
  }
}

// In the given order, those that failed lately last.
std::vector<JsonRpc::Endpoint*> JsonRpc::order() {
  std::vector<Endpoint*> all;
  for (Endpoint& endpoint : endpoints_) all.push_back(&endpoint);
  const TimePoint now = now_();
  std::ranges::stable_partition(all, [now](const Endpoint* e) { return e->rests_until <= now; });
  return all;
}

Result<void> JsonRpc::call(std::string_view method, const Json& parameters, const Reader& read) {
  if (endpoints_.empty()) return Error{Errc::chain_unavailable, "no endpoint is configured"};
  Error told{Errc::chain_unavailable, {}};
  for (Endpoint* endpoint : order()) {
    const Result<void> answer = ask_checked(*endpoint, method, parameters, read);
    if (answer) {
      endpoint->rests_until = {};
      return {};
    }
    const Error& failure = answer.error();
    if (is_final(failure.code)) return failure;
    endpoint->rests_until = now_() + rest_;
    endpoint->chain_checked = false;  // who comes back may be somebody else
    // An answer, however wrong, tells more than silence.
    if (told.code == Errc::chain_unavailable) told.code = failure.code;
    if (!told.detail.empty()) told.detail += "; ";
    told.detail += endpoint->host + ": " + failure.detail;
  }
  return told;
}

Result<void> JsonRpc::ask_checked(Endpoint& endpoint, std::string_view method,
                                  const Json& parameters, const Reader& read) {
  if (!endpoint.chain_checked) {
    const Result<void> checked = ask(endpoint, "eth_chainId", Json::array(),
                                     [this](const Json& r) { return expect_chain(r, chain_id_); });
    if (!checked) return checked;
    endpoint.chain_checked = true;
  }
  return ask(endpoint, method, parameters, read);
}

Result<void> JsonRpc::ask(Endpoint& endpoint, std::string_view method, const Json& parameters,
                          const Reader& read) {
  const std::uint64_t id = next_id_++;
  const Json request = {{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", parameters}};
  const Result<HttpAnswer> answer = post_(endpoint.url, request.dump());
  if (!answer) {
    if (answer.error().code == Errc::cancelled) return answer.error();
    return Error{Errc::chain_unavailable, std::string(name(answer.error().code))};
  }
  const Json reply = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  const bool is_reply = reply.is_object() && reply.contains("jsonrpc");
  if (answer->status != 200 && !(is_reply && reply.contains("error"))) {
    return Error{Errc::chain_unavailable, "HTTP status " + std::to_string(answer->status)};
  }
  if (!is_reply) return malformed("the answer is not JSON-RPC");
  const auto error = reply.find("error");
  if (error != reply.end() && !error->is_null()) return read_rpc_error(*error);
  const auto result = reply.find("result");
  const auto reply_id = reply.find("id");
  if (result == reply.end() || reply_id == reply.end() || *reply_id != Json(id)) {
    return malformed("the answer has no result or belongs to another request");
  }
  return read(*result);
}

}  // namespace farmesh::evm
