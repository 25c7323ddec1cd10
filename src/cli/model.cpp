// farmesh model: what one can ask of a model's folder, without running it.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <set>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <fmt/format.h>

#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/model_inspect.hpp"
#include "cli/model_measure.hpp"
#include "cli/model_publish.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "model/model_hash.hpp"
#include "model/synth.hpp"
#include "node/cache_folder.hpp"
#include "text/tokenizer.hpp"

namespace farmesh::cli {
namespace {

int hash(const std::string& folder) {
  const Result<ModelHash> hash = model::model_hash(folder, node::hash_cache_file());
  if (!hash) return report(hash.error());
  fmt::print("{}\n", model::to_hex(*hash));
  return kSuccess;
}

int tokenize(const std::string& folder, bool bos) {
  const auto tokenizer = text::load_tokenizer(folder);
  if (!tokenizer) return report(tokenizer.error());
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  text::EncodeOptions options;
  options.add_special = bos;
  const Result<std::vector<TokenId>> ids = (*tokenizer)->encode(text, options);
  if (!ids) return report(ids.error());
  fmt::print("{}\n", fmt::join(*ids, " "));
  return kSuccess;
}

struct SynthFlags {
  std::string shape;
  std::string out;
  std::string dtype = "bf16";
  std::uint64_t seed = 1;
};

int synth(const SynthFlags& flags) {
  model::SynthOptions options;
  options.shape = flags.shape;
  options.seed = flags.seed;
  options.dtype = flags.dtype == "f32"   ? DType::f32
                  : flags.dtype == "f16" ? DType::f16
                                         : DType::bf16;
  ProgressBar bar("writing");
  options.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.update(done, all); };
  const Result<void> written = model::write_synthetic_model(flags.out, options);
  return written ? kSuccess : report(written.error());
}

CLI::App* add_folder_verb(CLI::App& model, const std::string& name, const std::string& help,
                          std::string& folder) {
  CLI::App* verb = model.add_subcommand(name, help);
  verb->add_option("folder", folder, "Folder in Hugging Face layout")
      ->required()
      ->option_text("DIR");
  return verb;
}

void add_synth(CLI::App& model, Run& run) {
  const auto flags = std::make_shared<SynthFlags>();
  CLI::App* verb =
      model.add_subcommand("synth", "Write a model of random weights, to measure with");
  verb->add_option("--shape", flags->shape, "tiny, deep, 160m, 1.1b or 7b")
      ->required()
      ->check(CLI::IsMember(model::synthetic_shapes()))
      ->option_text("NAME");
  verb->add_option("--out", flags->out, "Folder to make")->required()->option_text("DIR");
  add_option_with_default(*verb, "--dtype", flags->dtype, "bf16, f16 or f32", "NAME")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  add_option_with_default(*verb, "--seed", flags->seed, "Equal seeds give equal files", "N");
  verb->callback([flags, &run] { run = [flags] { return synth(*flags); }; });
}

void add_measurements(CLI::App& model, Run& run) {
  const auto flags = std::make_shared<MeasureFlags>();
  const auto add = [&](const char* name, const char* help) {
    CLI::App* verb = add_folder_verb(model, name, help, flags->folder);
    verb->add_option("--threads", flags->threads, "Threads that compute; default: every core")
        ->check(CLI::Range(0, 1'024))
        ->option_text("N");
    verb->add_flag("--json", flags->json, "As JSON, an object a line");
    return verb;
  };
  const auto add_precision = [&](CLI::App& verb, const std::set<std::string>& names,
                                 const std::string& help) {
    verb.add_option_function<std::string>(
            "--precision",
            [flags](const std::string& text) { flags->precision = precision_of(text); }, help)
        ->check(CLI::IsMember(names))
        ->option_text("NAME");
  };

  CLI::App* quantize =
      add("quantize", "Quantise it as a node does when it loads: size, time, and what is lost");
  add_precision(*quantize, {"bf16", "int8", "int4"},
                "int8, int4, or bf16, which is only packed; default: int4");
  quantize->add_flag("--report", flags->report, "What every matrix lost");
  quantize->add_flag("--keep", flags->keep, "In files beside the weights, that nodes then load");
  quantize->callback([flags, &run] { run = [flags] { return quantize_model(*flags); }; });

  CLI::App* perplexity = add("perplexity", "How well it foresees the text on standard input");
  add_precision(*perplexity, {"f32", "bf16", "int8", "int4"},
                "f32, bf16, int8 or int4; default: int4");
  perplexity
      ->add_option_function<std::string>(
          "--kv", [flags](const std::string& text) { flags->kv = kv_format_of(text); },
          "KV cache in f32, bf16 or int8; default: f32 for f32, else bf16")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->option_text("NAME");
  add_arithmetic_flags(*perplexity, flags->numerics, flags->device);
  add_activations_flag(*perplexity, flags->activations);
  add_option_with_default(*perplexity, "--stages", flags->stages,
                          "Peers after one another, between which hidden states travel", "N")
      ->check(CLI::Range(1, 1'024));
  perplexity->callback([flags, &run] { run = [flags] { return measure_perplexity(*flags); }; });
}

}  // namespace

void add_model(CLI::App& program, Run& run) {
  CLI::App* model = program.add_subcommand("model", "Look into a model's folder, or make one");
  model->require_subcommand(1);

  struct FolderFlags {
    std::string folder;
    bool bos = false;
    bool tensors = false;
    bool json = false;
  };
  const auto flags = std::make_shared<FolderFlags>();

  CLI::App* inspect_verb =
      add_folder_verb(*model, "inspect", "Shape, sizes, tokenizer and hash", flags->folder);
  inspect_verb->add_flag("--tensors", flags->tensors, "List every tensor");
  inspect_verb->add_flag("--json", flags->json, "As one JSON object");
  inspect_verb->callback([flags, &run] {
    run = [flags] { return inspect_model(flags->folder, flags->tensors, flags->json); };
  });

  CLI::App* hash_verb = add_folder_verb(
      *model, "hash", "Its identity: equal hashes mean equal weights, config and tokenizer",
      flags->folder);
  hash_verb->callback([flags, &run] { run = [flags] { return hash(flags->folder); }; });

  CLI::App* tokenize_verb = add_folder_verb(
      *model, "tokenize", "Standard input, whole, as token ids on one line", flags->folder);
  tokenize_verb->add_flag("--bos", flags->bos, "With the tokens that the model puts around a text");
  tokenize_verb->callback(
      [flags, &run] { run = [flags] { return tokenize(flags->folder, flags->bos); }; });

  add_publish(*model, run);
  add_synth(*model, run);
  add_measurements(*model, run);
  model->footer(R"(
Examples:
  farmesh model inspect models/demo
  farmesh model hash models/demo
  farmesh model publish models/demo --bootstrap 203.0.113.7:31337
  printf 'Once upon a time' | farmesh model tokenize models/demo --bos
  farmesh model synth --shape 1.1b --out /tmp/1.1b
  farmesh model quantize models/demo --precision int4 --report --keep
  farmesh model perplexity models/demo --precision int8 < text)");
}

}  // namespace farmesh::cli
