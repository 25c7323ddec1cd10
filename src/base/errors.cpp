#include <farmesh/errors.hpp>

namespace farmesh::inline FARMESH_ABI {

std::string_view name(Errc code) noexcept {
  switch (code) {
    case Errc::ok: return "ok";
    case Errc::connection_refused: return "connection_refused";
    case Errc::connection_lost: return "connection_lost";
    case Errc::timeout: return "timeout";
    case Errc::address_invalid: return "address_invalid";
    case Errc::next_hop_lost: return "next_hop_lost";
    case Errc::closed: return "closed";
    case Errc::io_error: return "io_error";
    case Errc::tls_failed: return "tls_failed";
    case Errc::identity_mismatch: return "identity_mismatch";
    case Errc::bad_magic: return "bad_magic";
    case Errc::version_unsupported: return "version_unsupported";
    case Errc::frame_too_large: return "frame_too_large";
    case Errc::bad_header: return "bad_header";
    case Errc::bad_verb: return "bad_verb";
    case Errc::bad_stream: return "bad_stream";
    case Errc::bad_shape: return "bad_shape";
    case Errc::bad_payload: return "bad_payload";
    case Errc::unexpected_verb: return "unexpected_verb";
    case Errc::remote_unknown: return "remote_unknown";
    case Errc::weights_mismatch: return "weights_mismatch";
    case Errc::numerics_mismatch: return "numerics_mismatch";
    case Errc::stale_epoch: return "stale_epoch";
    case Errc::position_gap: return "position_gap";
    case Errc::bad_http: return "bad_http";
    case Errc::join_refused: return "join_refused";
    case Errc::busy: return "busy";
    case Errc::no_cache_space: return "no_cache_space";
    case Errc::quota: return "quota";
    case Errc::deadline_passed: return "deadline_passed";
    case Errc::too_many_sessions: return "too_many_sessions";
    case Errc::out_of_memory: return "out_of_memory";
    case Errc::model_not_found: return "model_not_found";
    case Errc::model_malformed: return "model_malformed";
    case Errc::model_unsupported: return "model_unsupported";
    case Errc::config_mismatch: return "config_mismatch";
    case Errc::tokenizer_malformed: return "tokenizer_malformed";
    case Errc::template_unsupported: return "template_unsupported";
    case Errc::context_exceeded: return "context_exceeded";
    case Errc::span_unavailable: return "span_unavailable";
    case Errc::no_route: return "no_route";
    case Errc::compute_failed: return "compute_failed";
    case Errc::engine_unavailable: return "engine_unavailable";
    case Errc::session_unknown: return "session_unknown";
    case Errc::head_unavailable: return "head_unavailable";
    case Errc::hub_refused: return "hub_refused";
    case Errc::hub_changed: return "hub_changed";
    case Errc::weights_damaged: return "weights_damaged";
    case Errc::disk_full: return "disk_full";
    case Errc::hash_unknown: return "hash_unknown";
    case Errc::ledger_unavailable: return "ledger_unavailable";
    case Errc::ledger_conflict: return "ledger_conflict";
    case Errc::ledger_damaged: return "ledger_damaged";
    case Errc::ledger_newer: return "ledger_newer";
    case Errc::not_found: return "not_found";
    case Errc::receipt_invalid: return "receipt_invalid";
    case Errc::insufficient_credit: return "insufficient_credit";
    case Errc::amount_invalid: return "amount_invalid";
    case Errc::grant_required: return "grant_required";
    case Errc::invalid_argument: return "invalid_argument";
    case Errc::cancelled: return "cancelled";
    case Errc::config_invalid: return "config_invalid";
    case Errc::unsupported: return "unsupported";
    case Errc::chain_unavailable: return "chain_unavailable";
    case Errc::chain_mismatch: return "chain_mismatch";
    case Errc::chain_answer_malformed: return "chain_answer_malformed";
    case Errc::chain_refused: return "chain_refused";
    case Errc::call_reverted: return "call_reverted";
    case Errc::nonce_taken: return "nonce_taken";
    case Errc::fee_too_low: return "fee_too_low";
    case Errc::funds_insufficient: return "funds_insufficient";
    case Errc::transaction_known: return "transaction_known";
    case Errc::evm_encoding_invalid: return "evm_encoding_invalid";
    case Errc::wallet_invalid: return "wallet_invalid";
    case Errc::wallet_signature_invalid: return "wallet_signature_invalid";
    case Errc::wallet_statement_invalid: return "wallet_statement_invalid";
    case Errc::keystore_invalid: return "keystore_invalid";
    case Errc::password_wrong: return "password_wrong";
  }
  return "unknown";
}

// No `default`: a new Errc must decide here.
bool should_reroute(Errc code) noexcept {
  switch (code) {
    case Errc::connection_refused:
    case Errc::connection_lost:
    case Errc::timeout:
    case Errc::address_invalid:
    case Errc::next_hop_lost:
    case Errc::io_error:
    case Errc::tls_failed:
    case Errc::identity_mismatch:
    case Errc::bad_magic:
    case Errc::version_unsupported:
    case Errc::frame_too_large:
    case Errc::bad_header:
    case Errc::bad_verb:
    case Errc::bad_stream:
    case Errc::bad_shape:
    case Errc::bad_payload:
    case Errc::unexpected_verb:
    case Errc::remote_unknown:
    case Errc::weights_mismatch:
    case Errc::numerics_mismatch:
    case Errc::position_gap:
    case Errc::bad_http:
    case Errc::busy:
    case Errc::no_cache_space:
    case Errc::quota:
    case Errc::deadline_passed:
    case Errc::too_many_sessions:
    case Errc::out_of_memory:
    case Errc::span_unavailable:
    case Errc::compute_failed:
    case Errc::session_unknown:
    case Errc::grant_required: return true;

    case Errc::ok:
    case Errc::closed:
    case Errc::stale_epoch:
    case Errc::join_refused:
    case Errc::model_not_found:
    case Errc::model_malformed:
    case Errc::model_unsupported:
    case Errc::config_mismatch:
    case Errc::tokenizer_malformed:
    case Errc::template_unsupported:
    case Errc::context_exceeded:
    case Errc::no_route:
    case Errc::engine_unavailable:
    case Errc::head_unavailable:
    case Errc::hub_refused:
    case Errc::hub_changed:
    case Errc::weights_damaged:
    case Errc::disk_full:
    case Errc::hash_unknown:
    case Errc::ledger_unavailable:
    case Errc::ledger_conflict:
    case Errc::ledger_damaged:
    case Errc::ledger_newer:
    case Errc::not_found:
    case Errc::receipt_invalid:
    case Errc::insufficient_credit:
    case Errc::amount_invalid:
    case Errc::invalid_argument:
    case Errc::cancelled:
    case Errc::config_invalid:
    case Errc::unsupported:
    case Errc::chain_unavailable:
    case Errc::chain_mismatch:
    case Errc::chain_answer_malformed:
    case Errc::chain_refused:
    case Errc::call_reverted:
    case Errc::nonce_taken:
    case Errc::fee_too_low:
    case Errc::funds_insufficient:
    case Errc::transaction_known:
    case Errc::evm_encoding_invalid:
    case Errc::wallet_invalid:
    case Errc::wallet_signature_invalid:
    case Errc::wallet_statement_invalid:
    case Errc::keystore_invalid:
    case Errc::password_wrong: return false;
  }
  return false;
}

Errc errc_from_number(std::uint16_t number) noexcept {
  const auto code = static_cast<Errc>(number);
  return name(code) == "unknown" ? Errc::remote_unknown : code;
}

}  // namespace farmesh::inline FARMESH_ABI
