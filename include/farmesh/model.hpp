// A model as one object, wherever its layers are: in this process, on peers, or on both.
//
//   auto model = farmesh::DistributedModel::open({.folder = "models/demo", .local = true});
//   auto session = model->open_session();
//   for (const farmesh::Token& token : session->generate("Once upon a time")) print(token.text);
//
// The loop that makes tokens runs where the head is (embedding, final norm, LM head, sampling):
// in this process by default, so that no peer is ever sent text or token ids. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <farmesh/device.hpp>
#include <farmesh/discovery.hpp>
#include <farmesh/export.hpp>
#include <farmesh/hidden_session.hpp>
#include <farmesh/identity.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/result.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>
#include <farmesh/weights.hpp>

namespace farmesh::inline FARMESH_ABI {

struct ModelOptions {
  /// Hugging Face layout (config.json, the tokenizer's files, safetensors), or "ORG/NAME", an id at
  /// a hub: then only what this process computes with is fetched.
  std::string folder;
  WeightsOptions weights;  // for an id
  /// "HOST:PORT" of peers that serve its layers, or "HOST:PORT/p2p/NODE-ID" where only that node
  /// will do. Their spans may overlap and repeat: the spare ones take over when one is lost. A
  /// peer with other weights is refused by name.
  std::vector<std::string> peers;
  bool local = false;  // hold every layer in this process
  /// A peer hosts the head as well. No weights are opened here, so the folder needs only
  /// config.json and the tokenizer; which weights serve is then settled by the first head used,
  /// and others must equal it. That peer sees the tokens.
  bool remote_head = false;
  /// A small model, a folder or an id, with the same tokenizer: held whole in this process, it
  /// guesses ahead for turns with GenerateOptions::max_draft. Not with remote_head.
  std::string draft_model;
  std::optional<Precision> precision;  // nothing: f32 when the files are f32, else bf16
  std::optional<KvFormat> kv;          // nothing: f32 for f32, else bf16; that of the peers
  std::optional<Numerics> numerics;    // nothing: exact on a CPU, fused on a GPU; the peers' own
  Device device;                       // that computes what is held here; of the peers' kind
  int threads = 0;                     // that compute; 0: one for each core available
  /// Binds them to cores, one each, from the core of this number among those that the process may
  /// use on, round again at the last, and the network thread to the first of them; nothing:
  /// unbound. Of exact numerics.
  std::optional<int> pin_threads;
  std::string model_id;                 // for display; empty: the folder's name
  std::uint32_t cache_tokens = 16'384;  // KV cache of `local` layers, over all sessions
  std::chrono::milliseconds connect_timeout{5'000};
  /// Opens although some layer has no peer yet, and goes on dialling and finding: until then turns
  /// fail with no_route or head_unavailable. info() tells who is there.
  bool open_uncovered = false;
  /// (bytes loaded, bytes in all) while weights load, on the thread that called open().
  std::function<void(std::uint64_t, std::uint64_t)> on_loading;
  IdentityOptions identity;
  /// Finds peers besides those that are named, and goes on finding them while the model is open.
  DiscoveryOptions discovery;
};

struct PeerStatus {
  std::string address;
  std::string node_id;  // that it proved: 64 hexadecimal digits; empty before it was reached
  bool connected = false;
  Span layers;        // that it holds
  bool head = false;  // that it offers
  double round_trip_ms = 0;
  std::optional<Error> refused;  // why it is not used: unreachable, weights_mismatch, …
};

struct ModelSummary {
  std::string model_id;
  std::string model_hash;      // 64 hexadecimal digits; empty while only peers could tell
  std::string numerics_class;  // such as "bf16/exact-2/fma"; equal classes give equal tokens
  std::string architecture;
  std::uint32_t num_layers = 0;
  std::uint32_t hidden_size = 0;
  DType hidden_dtype = DType::bf16;  // of hidden states, here and between peers
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens = 0;
  bool has_chat_template = false;
  std::uint64_t weight_bytes = 0;  // held in this process
  std::vector<PeerStatus> peers;   // as given in ModelOptions
};

class FARMESH_API DistributedModel {
 public:
  /// Loads what this process computes itself, then dials the peers. Fails with model_not_found,
  /// model_malformed, model_unsupported, config_mismatch, tokenizer_malformed,
  /// engine_unavailable, out_of_memory; and when some layer is covered by nobody (unless
  /// open_uncovered), with what keeps it so: weights_mismatch, numerics_mismatch,
  /// identity_mismatch, join_refused, connection_refused, no_route, head_unavailable. A draft model
  /// with another tokenizer is a config_mismatch. Options that exclude each other:
  /// invalid_argument. Also config_invalid (key or token); of an id hub_refused, hub_changed,
  /// weights_damaged, disk_full, hash_unknown, bad_http and transport failures.
  static Result<DistributedModel> open(ModelOptions options);

  DistributedModel(DistributedModel&&) noexcept;
  DistributedModel& operator=(DistributedModel&&) noexcept;
  ~DistributedModel();  // sessions keep what they use alive until they are gone

  /// Nothing is sent before the first turn. Fails with invalid_argument.
  Result<Session> open_session(const SessionOptions& options = {}) const;

  /// The layers alone, without the head. Nothing is sent before the first run(). Fails with
  /// unsupported with a head on a peer.
  Result<HiddenSession> open_hidden_session(const SessionOptions& options = {}) const;
  /// What the layers are given for these tokens: [ids, hidden]. Fails with invalid_argument (none,
  /// or outside the vocabulary), context_exceeded, unsupported with a head on a peer, busy.
  Result<Rows> embed(const std::vector<TokenId>& ids) const;
  /// What the head makes of the layers' output `hidden`, of at most 256 rows: [rows, vocabulary],
  /// f32. Fails with invalid_argument, unsupported with a head on a peer, busy.
  Result<Rows> logits(const Rows& hidden) const;

  /// `add_special`: what the model puts around a text, such as its beginning-of-text token.
  Result<std::vector<TokenId>> encode(std::string_view text, bool add_special = true) const;
  /// Special tokens are left out; bytes that are no UTF-8 become U+FFFD.
  std::string decode(const std::vector<TokenId>& ids) const;
  /// A token's own bytes, which need not be whole characters; empty for special tokens.
  std::string token_bytes(TokenId id) const;

  ModelSummary info() const;

  /// Asks the peers for receipts of a session that an earlier process drove, now and as they are
  /// reached, while the bill lives. The coordinator's.
  void ask_receipts(const std::shared_ptr<driver::Bill>& bill) const;

  struct Impl;

 private:
  explicit DistributedModel(std::shared_ptr<Impl> impl) noexcept;
  std::shared_ptr<Impl> impl_;
};

}  // namespace farmesh::inline FARMESH_ABI
