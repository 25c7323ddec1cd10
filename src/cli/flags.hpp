// Flags that several verbs share, and the values behind them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/App.hpp>

#include <farmesh/activations.hpp>
#include <farmesh/device.hpp>
#include <farmesh/discovery.hpp>
#include <farmesh/identity.hpp>
#include <farmesh/kv_format.hpp>
#include <farmesh/model.hpp>
#include <farmesh/numerics.hpp>
#include <farmesh/result.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>

#include "cli/hub_flags.hpp"

namespace farmesh::cli {

/// --key, --join-token-file, --mesh-key; for nodes --data-dir and --ephemeral besides.
struct IdentityFlags {
  IdentityOptions options;
  bool ephemeral = false;

  void add_to(CLI::App& verb);
  void add_to_node(CLI::App& verb);

  /// Fails with config_invalid where there is no folder for a node's key.
  Result<IdentityOptions> chosen() const;
};

/// --bootstrap, --mesh, --dht-port, --public-dht, and the environment behind the first.
struct DiscoveryFlags {
  DiscoveryOptions options;

  void add_to(CLI::App& verb);

  /// FAR_MESH_DHT_BOOTSTRAP or DHT_BOOTSTRAP_NODES where no flag says how to find the mesh.
  DiscoveryOptions chosen() const;
};

/// A precision by its name, such as bf16 or bfloat16; the name was checked before.
Precision precision_of(const std::string& name);

/// A format by its name, as above.
KvFormat kv_format_of(const std::string& name);

/// --numerics, --device.
void add_arithmetic_flags(CLI::App& verb, std::optional<Numerics>& numerics, Device& device);

/// --precision, --kv and the above: what a node, and whoever talks to it, computes in and on.
void add_numerics_flags(CLI::App& verb, std::optional<Precision>& precision,
                        std::optional<KvFormat>& kv, std::optional<Numerics>& numerics,
                        Device& device);

/// --threads, --pin-threads.
void add_thread_flags(CLI::App& verb, int& threads, std::optional<int>& pin_threads);

/// --model, all of the above, --model-id, and where a model lies that has an id.
struct WeightFlags {
  std::string model;
  HubFlags hub;
  std::optional<Precision> precision;
  std::optional<KvFormat> kv;
  std::optional<Numerics> numerics;
  Device device;
  int threads = 0;
  std::optional<int> pin_threads;
  std::string model_id;

  void add_to(CLI::App& verb);
};

/// --activations: what hidden states travel in.
CLI::Option* add_activations_flag(CLI::App& verb, Activations& activations);

/// --model and so on, and where the layers are: --peer, --local, --remote-head; --activations and
/// --draft-model.
struct ModelFlags {
  WeightFlags weights;
  IdentityFlags identity;
  DiscoveryFlags discovery;
  std::vector<std::string> peers;
  bool local = false;
  bool remote_head = false;
  std::string draft_model;
  SessionOptions session;

  void add_to(CLI::App& verb);

  /// Opens the model, with a bar on the terminal while weights load. Without a peer it is local.
  Result<DistributedModel> open() const;
};

/// --max-tokens, --max-draft, --stop, and every sampling option.
struct SamplingFlags {
  GenerateOptions options;
  std::optional<std::uint32_t> max_draft;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> logit_bias;

  void add_to(CLI::App& verb);

  /// With a seed drawn if none was given, so that it can be told; guessing, if nobody said how
  /// far, where there is a draft model. Fails with invalid_argument.
  Result<GenerateOptions> chosen(bool has_draft_model) const;
};

/// An option whose help shows its present value: "--rounds N [5]".
template <class Value>
CLI::Option* add_option_with_default(CLI::App& verb, const std::string& flag, Value& value,
                                     const std::string& help, const std::string& placeholder) {
  CLI::Option* option = verb.add_option(flag, value, help)->capture_default_str();
  return option->option_text(placeholder + " [" + option->get_default_str() + "]");
}

/// "2:5" as a Span. Fails with invalid_argument.
Result<Span> parse_layers(const std::string& text);

}  // namespace farmesh::cli
