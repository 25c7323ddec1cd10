#include "cli/flags.hpp"

#include <charconv>
#include <cstdlib>
#include <map>
#include <utility>

#include <CLI/Validators.hpp>

#include "base/digest.hpp"
#include "cli/terminal.hpp"
#include "node/own_identity.hpp"

namespace farmesh::cli {
namespace {

constexpr std::uint32_t kMostDraft = 16;  // tokens guessed ahead in one step

// The whole of `text` as a number; false otherwise.
template <class Number>
bool parse(std::string_view text, Number& number) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [stopped, failure] = std::from_chars(begin, end, number);
  return !text.empty() && failure == std::errc() && stopped == end;
}

// Ours, and those that far-node's settings use.
const std::map<std::string, Precision>& precisions() {
  static const std::map<std::string, Precision> kPrecisions{
      {"f32", Precision::f32},       {"float32", Precision::f32}, {"bf16", Precision::bf16},
      {"bfloat16", Precision::bf16}, {"f16", Precision::f16},     {"float16", Precision::f16},
      {"int8", Precision::int8},     {"int4", Precision::int4},
  };
  return kPrecisions;
}

const std::map<std::string, KvFormat>& kv_formats() {
  static const std::map<std::string, KvFormat> kFormats{
      {"f32", KvFormat::f32}, {"bf16", KvFormat::bf16}, {"int8", KvFormat::int8}};
  return kFormats;
}

}  // namespace

Precision precision_of(const std::string& name) { return precisions().at(name); }
KvFormat kv_format_of(const std::string& name) { return kv_formats().at(name); }

void add_arithmetic_flags(CLI::App& verb, std::optional<Numerics>& numerics, Device& device) {
  verb.add_option_function<std::string>(
          "--numerics",
          [&numerics](const std::string& text) {
            numerics = text == name(Numerics::fast) ? Numerics::fast : Numerics::exact;
          },
          "On a processor: exact, one order of summation, or fast, libtorch's; default: exact")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->option_text("NAME");
  const auto known = [](const std::string& text) {
    return device_from_name(text) ? "" : "cpu, cuda or cuda:N, not '" + text + "'";
  };
  verb.add_option_function<std::string>(
          "--device", [&device](const std::string& text) { device = *device_from_name(text); },
          "cpu, cuda or cuda:N: this machine's processor or a GPU of it computes; default: cpu")
      ->check(CLI::Validator(known, ""))
      ->option_text("NAME");
}

void add_numerics_flags(CLI::App& verb, std::optional<Precision>& precision,
                        std::optional<KvFormat>& kv, std::optional<Numerics>& numerics,
                        Device& device) {
  verb.add_option_function<std::string>(
          "--precision", [&precision](const std::string& text) { precision = precision_of(text); },
          "f32, bf16, f16, int8 or int4; default: f32 for f32 files, else bf16")
      ->check(CLI::IsMember(precisions()))
      ->option_text("NAME");
  verb.add_option_function<std::string>(
          "--kv", [&kv](const std::string& text) { kv = kv_format_of(text); },
          "KV cache in f32, bf16 or int8; default: f32 for f32, else bf16")
      ->check(CLI::IsMember(kv_formats()))
      ->option_text("NAME");
  add_arithmetic_flags(verb, numerics, device);
}

void add_thread_flags(CLI::App& verb, int& threads, std::optional<int>& pin_threads) {
  verb.add_option("--threads", threads, "Threads that compute; default: every core")
      ->check(CLI::Range(0, 1'024))
      ->option_text("N");
  verb.add_option("--pin-threads", pin_threads,
                  "Bind them to cores, one each, from this one on: 0 is the first of those allowed")
      ->check(CLI::Range(0, 1'023))
      ->option_text("FIRST");
}

CLI::Option* add_activations_flag(CLI::App& verb, Activations& activations) {
  return verb
      .add_option_function<std::string>(
          "--activations",
          [&activations](const std::string& text) {
            activations =
                text == name(Activations::int8) ? Activations::int8 : Activations::residual;
          },
          "Hidden states travel to and between peers as they are, residual, or rounded to int8")
      ->check(CLI::IsMember({name(Activations::residual), name(Activations::int8)}))
      ->option_text("NAME [residual]");
}

void WeightFlags::add_to(CLI::App& verb) {
  verb.add_option("--model", model, "Folder in Hugging Face layout, or a model's id at a hub")
      ->required()
      ->option_text("DIR|ORG/NAME");
  hub.add_to(verb);
  add_numerics_flags(verb, precision, kv, numerics, device);
  add_thread_flags(verb, threads, pin_threads);
  verb.add_option("--model-id", model_id, "Name for display; default: the id, or the folder's")
      ->option_text("NAME");
}

void IdentityFlags::add_to(CLI::App& verb) {
  verb.add_option("--key", options.key_file,
                  "Key that this process is known by, made if missing; default: a new one")
      ->option_text("FILE");
  verb.add_option("--join-token-file", options.join_token_file, "Token of a private mesh")
      ->option_text("FILE");
  verb.add_option("--mesh-key", options.mesh_key_file, "A private mesh's own key, for a token")
      ->option_text("FILE");
}

void IdentityFlags::add_to_node(CLI::App& verb) {
  add_to(verb);
  verb.get_option("--key")->description("This key file instead of one in the data folder");
  verb.add_option("--data-dir", options.data_dir,
                  "Folder that keeps the node's key; default $XDG_DATA_HOME/farmesh")
      ->option_text("DIR");
  verb.add_flag("--ephemeral", ephemeral, "A key that is forgotten at the end");
}

Result<IdentityOptions> IdentityFlags::chosen() const {
  IdentityOptions chosen = options;
  if (!ephemeral && chosen.key_file.empty() && chosen.data_dir.empty()) {
    chosen.data_dir = node::data_folder().string();
    if (chosen.data_dir.empty()) {
      return {Errc::config_invalid, "no home to keep a key in: give --data-dir or --ephemeral"};
    }
  }
  if (ephemeral) chosen.data_dir.clear();
  return chosen;
}

void DiscoveryFlags::add_to(CLI::App& verb) {
  verb.add_option("--bootstrap", options.bootstrap,
                  "Where to find the mesh; several by commas, or repeated")
      ->allow_extra_args(false)
      ->option_text("ADDR[,ADDR]");
  verb.add_option("--mesh", options.mesh, "Its name; default far-mesh, or the join token's")
      ->option_text("NAME");
  verb.add_option("--dht-port", options.dht_port, "UDP, of the own DHT node; 0: a free one")
      ->check(CLI::Range(0, 65'535))
      ->option_text("N");
  verb.add_flag("--public-dht", options.public_dht, "Meet in BitTorrent's DHT as well");
}

DiscoveryOptions DiscoveryFlags::chosen() const {
  DiscoveryOptions chosen = options;
  for (const char* name : {"FAR_MESH_DHT_BOOTSTRAP", "DHT_BOOTSTRAP_NODES"}) {
    const char* value = std::getenv(name);
    if (chosen.enabled() || value == nullptr || *value == '\0') continue;
    chosen.bootstrap.emplace_back(value);
  }
  return chosen;
}

void ModelFlags::add_to(CLI::App& verb) {
  weights.add_to(verb);
  identity.add_to(verb);
  discovery.add_to(verb);
  verb.add_option("--peer", peers, "Peer that serves layers; repeat for each, spare ones too")
      ->allow_extra_args(false)
      ->option_text("HOST:PORT");
  verb.add_flag("--local", local,
                "Hold every layer here; the default without --peer and --bootstrap");
  verb.add_flag("--remote-head", remote_head,
                "Use a head that a peer offers: no weights are opened, that peer sees the tokens");
  add_activations_flag(verb, session.activations);
  verb.add_option("--draft-model", draft_model,
                  "Small model of the same tokenizer, held here, that guesses ahead")
      ->option_text("DIR");
}

Result<DistributedModel> ModelFlags::open() const {
  ModelOptions options;
  options.folder = weights.model;
  options.weights = weights.hub.chosen();
  options.peers = peers;
  // Who names peers, or wants none, is not sent elsewhere by the environment.
  const bool searches = peers.empty() && !local;
  options.discovery = searches ? discovery.chosen() : discovery.options;
  options.local = local || (searches && !remote_head && !options.discovery.enabled());
  options.remote_head = remote_head;
  options.draft_model = draft_model;
  options.precision = weights.precision;
  options.kv = weights.kv;
  options.numerics = weights.numerics;
  options.device = weights.device;
  options.threads = weights.threads;
  options.pin_threads = weights.pin_threads;
  options.model_id = weights.model_id;
  options.identity = identity.options;
  ProgressBar bar("loading");
  options.on_loading = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
  return DistributedModel::open(std::move(options));
}

void SamplingFlags::add_to(CLI::App& verb) {
  SamplingOptions& sampling = options.sampling;
  const auto number = [&verb](const char* flag, auto& value, const char* help) {
    add_option_with_default(verb, flag, value, help, "N");
  };
  number("--max-tokens", options.max_tokens, "Most tokens to generate");
  number("--temperature", sampling.temperature, "0: always the likeliest token");
  number("--top-k", sampling.top_k, "Only the N likeliest; 0: off");
  number("--top-p", sampling.top_p, "Only the likeliest that sum up to N; 1: off");
  number("--min-p", sampling.min_p, "Only those at least N times as likely as the first; 0: off");
  number("--repetition-penalty", sampling.repetition_penalty, "Over prompt and output; 1: off");
  number("--presence-penalty", sampling.presence_penalty, "Over the output; 0: off");
  number("--frequency-penalty", sampling.frequency_penalty, "Over the output; 0: off");
  verb.add_option("--logit-bias", logit_bias, "Added to the logit of token ID; repeatable")
      ->allow_extra_args(false)
      ->option_text("ID=BIAS");
  verb.add_option("--seed", seed, "Equal seeds give equal tokens; default: drawn, and told")
      ->option_text("N");
  verb.add_option("--stop", options.stop, "End before this text; repeatable")
      ->allow_extra_args(false)
      ->option_text("TEXT");
  verb.add_option("--max-draft", max_draft,
                  "Tokens guessed ahead and verified in one step; the text is the same")
      ->check(CLI::Range(0u, kMostDraft))
      ->option_text("N [0; 16 with a draft model]");
  verb.add_flag("--ignore-eos", options.ignore_eos, "Go on after the model's end-of-text token");
}

Result<GenerateOptions> SamplingFlags::chosen(bool has_draft_model) const {
  GenerateOptions chosen = options;
  chosen.max_draft = max_draft.value_or(has_draft_model ? kMostDraft : 0);
  chosen.sampling.seed = seed ? *seed : random_seed();
  for (const std::string& text : logit_bias) {
    LogitBias bias;
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos ||
        !parse(std::string_view(text).substr(0, equals), bias.token) ||
        !parse(std::string_view(text).substr(equals + 1), bias.bias)) {
      return {Errc::invalid_argument, "--logit-bias wants ID=BIAS, not '" + text + "'"};
    }
    chosen.sampling.logit_bias.push_back(bias);
  }
  return chosen;
}

Result<Span> parse_layers(const std::string& text) {
  Span layers;
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || !parse(std::string_view(text).substr(0, colon), layers.begin) ||
      !parse(std::string_view(text).substr(colon + 1), layers.end)) {
    return {Errc::invalid_argument, "--layers wants A:B, such as 0:11, not '" + text + "'"};
  }
  return layers;
}

}  // namespace farmesh::cli
