#include "train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numbers>

#include <nlohmann/json.hpp>

#include "train/decoder.hpp"
#include "train/model_files.hpp"
#include "train/random.hpp"

namespace farmesh::train {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

constexpr double kWarmUp = 0.04;        // share of the run
constexpr double kFinalRate = 0.02;     // of the peak learning rate
constexpr double kLongRowsFrom = 0.75;  // the last quarter trains on rows of the full context
constexpr std::int64_t kShortRow = 256;
constexpr double kGradientNorm = 1.0;
constexpr double kWeightDecay = 0.1;
constexpr auto kCheckpointEvery = std::chrono::minutes(5);

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Linear warm-up, then half a cosine; `progress` in [0, 1].
double rate_factor(double progress) {
  if (progress < kWarmUp) return (progress + 1e-3) / (kWarmUp + 1e-3);
  const double rest = std::min(1.0, (progress - kWarmUp) / (1.0 - kWarmUp));
  return kFinalRate + (1.0 - kFinalRate) * 0.5 * (1.0 + std::cos(std::numbers::pi * rest));
}

torch::Tensor as_tensor(std::vector<std::int64_t>& values, const Batch& batch) {
  return torch::from_blob(values.data(), {batch.rows, batch.length}, torch::kInt64);
}

/// Matrices decay, norms do not.
torch::optim::AdamW make_optimizer(const Decoder& decoder) {
  std::vector<torch::Tensor> matrices, vectors;
  for (const auto& [name, tensor] : decoder.parameters()) {
    (tensor.dim() > 1 ? matrices : vectors).push_back(tensor);
  }
  const auto options = [](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions().betas({0.9, 0.95}).weight_decay(decay));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::move(matrices), options(kWeightDecay));
  groups.emplace_back(std::move(vectors), options(0.0));
  return torch::optim::AdamW(std::move(groups));
}

/// What a run is, besides its options: saved and resumed as one.
struct Run {
  explicit Run(const DecoderShape& shape) : decoder(shape), optimizer(make_optimizer(decoder)) {}

  void save(const std::filesystem::path& file, std::uint64_t corpus_position) {
    torch::serialize::OutputArchive archive, moments;
    for (const auto& [name, tensor] : decoder.parameters()) {
      archive.write(name, tensor.detach());
    }
    optimizer.save(moments);
    archive.write("optimizer", moments);
    archive.write("step", torch::tensor(step));
    archive.write("seconds", torch::tensor(seconds, torch::kFloat64));
    archive.write("corpus_position", torch::tensor(static_cast<std::int64_t>(corpus_position)));
    const std::filesystem::path fresh = file.string() + ".new";
    archive.save_to(fresh.string());
    std::filesystem::rename(fresh, file);
  }

  /// Returns the position in the corpus.
  std::uint64_t load(const std::filesystem::path& file) {
    const torch::NoGradGuard no_grad;
    torch::serialize::InputArchive archive, moments;
    archive.load_from(file.string());
    const auto read = [&](const std::string& name) {
      torch::Tensor tensor;
      archive.read(name, tensor);
      return tensor;
    };
    for (auto& [name, tensor] : decoder.parameters()) torch::Tensor(tensor).copy_(read(name));
    archive.read("optimizer", moments);
    optimizer.load(moments);
    step = read("step").item<std::int64_t>();
    seconds = read("seconds").item<double>();
    return static_cast<std::uint64_t>(read("corpus_position").item<std::int64_t>());
  }

  Decoder decoder;
  torch::optim::AdamW optimizer;
  std::int64_t step = 0;
  double seconds = 0;  // of training, over all resumptions
};

/// One update; returns the loss in nats a token.
double train_step(Run& run, Batch batch, double rate) {
  for (auto& group : run.optimizer.param_groups()) group.options().set_lr(rate);
  const auto logits =
      run.decoder.logits(as_tensor(batch.inputs, batch), as_tensor(batch.documents, batch));
  const auto loss = torch::nn::functional::cross_entropy(
      logits.flatten(0, 1), as_tensor(batch.targets, batch).flatten(),
      torch::nn::functional::CrossEntropyFuncOptions().ignore_index(kNotScored));
  run.optimizer.zero_grad();
  loss.backward();
  std::vector<torch::Tensor> parameters;
  for (const auto& [name, tensor] : run.decoder.parameters()) parameters.push_back(tensor);
  torch::nn::utils::clip_grad_norm_(parameters, kGradientNorm);
  run.optimizer.step();
  return loss.item<double>();
}

ordered_json model_config(const DecoderShape& shape) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", shape.hidden},
          {"intermediate_size", shape.feed_forward},
          {"num_hidden_layers", shape.layers},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.kv_heads},
          {"head_dim", shape.head_dim},
          {"vocab_size", shape.vocabulary},
          {"max_position_embeddings", shape.context},
          {"rms_norm_eps", shape.norm_eps},
          {"rope_theta", shape.rope_theta},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"tie_word_embeddings", true},
          {"bos_token_id", kBosId},
          {"eos_token_id", kEosId},
          {"torch_dtype", "bfloat16"}};
}

ordered_json tokenizer_config() {
  const auto special = [](std::string_view piece) {
    return ordered_json{{"content", piece}, {"lstrip", false},      {"normalized", false},
                        {"rstrip", false},  {"single_word", false}, {"special", true}};
  };
  // Vocabulary::tokens() builds the same ids by hand.
  const std::string chat_template =
      "{{ bos_token }}{% for message in messages %}"
      "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
      "{% elif message['role'] == 'assistant' %}"
      "{{ '<|assistant|>' + message['content'] + eos_token }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
  return {{"tokenizer_class", "LlamaTokenizer"},
          {"legacy", true},
          {"add_bos_token", true},
          {"add_eos_token", false},
          {"added_tokens_decoder",
           {{"0", special("<unk>")},
            {"1", special("<s>")},
            {"2", special("</s>")},
            {"3", special("<|user|>")},
            {"4", special("<|assistant|>")}}},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"unk_token", "<unk>"},
          {"additional_special_tokens", {"<|user|>", "<|assistant|>"}},
          {"clean_up_tokenization_spaces", false},
          {"model_max_length", DecoderShape{}.context},
          {"chat_template", chat_template}};
}

Result<void> write_model(const Decoder& decoder, const std::filesystem::path& folder) {
  std::map<std::string, SavedTensor> tensors;
  for (const auto& [name, tensor] : decoder.parameters()) {
    const auto rounded = tensor.detach().to(torch::kBFloat16).contiguous();
    SavedTensor& saved = tensors[name];
    saved.shape = tensor.sizes().vec();
    saved.values.resize(static_cast<std::size_t>(tensor.numel()));
    std::memcpy(saved.values.data(), rounded.data_ptr(), saved.values.size() * 2);
  }
  const ordered_json generation = {{"bos_token_id", kBosId},
                                   {"eos_token_id", kEosId},
                                   {"do_sample", true},
                                   {"temperature", 0.7},
                                   {"top_p", 0.9}};
  if (auto done = write_safetensors(folder / "model.safetensors", tensors); !done) return done;
  if (auto done = write_text(folder / "config.json", model_config(decoder.shape()).dump(2) + "\n");
      !done) {
    return done;
  }
  if (auto done = write_text(folder / "generation_config.json", generation.dump(2) + "\n"); !done) {
    return done;
  }
  return write_text(folder / "tokenizer_config.json", tokenizer_config().dump(2) + "\n");
}

Result<void> run_training(Corpus& corpus, const TrainOptions& options) {
  torch::set_num_threads(options.threads);
  torch::manual_seed(static_cast<std::int64_t>(options.seed));
  DecoderShape shape;
  shape.vocabulary = options.vocabulary;
  Run run(shape);
  const bool checkpoints = !options.checkpoint.empty();
  if (checkpoints && std::filesystem::exists(options.checkpoint)) {
    corpus.seek(run.load(options.checkpoint));
    std::printf("resumed at step %ld\n", run.step);
  }
  std::printf("%ld parameters, %d threads\n", run.decoder.parameter_count(), options.threads);

  // A folder that cannot be written fails now, not after the work.
  if (auto written = write_model(run.decoder, options.out); !written) return written;

  const double before = run.seconds;
  const auto start = Clock::now();
  auto saved = start;
  double average = 0;
  while (true) {
    run.seconds = before + seconds_since(start);
    double progress = static_cast<double>(run.step) / static_cast<double>(options.steps);
    if (options.minutes > 0) progress = std::max(progress, run.seconds / 60.0 / options.minutes);
    if (progress >= 1.0) break;
    const std::int64_t length = progress < kLongRowsFrom ? kShortRow : shape.context;
    const double rate = options.learning_rate * rate_factor(progress);
    const double loss =
        train_step(run, corpus.next(options.tokens_per_step / length, length), rate);
    ++run.step;
    average = average == 0 ? loss : 0.95 * average + 0.05 * loss;
    if (run.step % 20 == 0) {
      std::printf("step %5ld  loss %.4f  rate %.5f  corpus %3lu %%  %6.0f s\n", run.step, average,
                  rate, 100 * corpus.position() / corpus.size(), before + seconds_since(start));
      std::fflush(stdout);
    }
    if (checkpoints && Clock::now() - saved > kCheckpointEvery) {
      run.save(options.checkpoint, corpus.position());
      if (auto written = write_model(run.decoder, options.out); !written) return written;
      saved = Clock::now();
    }
  }
  std::printf("done: %ld steps, loss %.4f, %.0f s\n", run.step, average, run.seconds);
  if (checkpoints) run.save(options.checkpoint, corpus.position());
  return write_model(run.decoder, options.out);
}

int pick(const torch::Tensor& logits, double temperature, Random& random) {
  if (temperature <= 0) return static_cast<int>(logits.argmax().item<std::int64_t>());
  const auto cumulative = torch::softmax(logits / temperature, -1).cumsum(-1);
  const auto reached = (cumulative < random.uniform()).sum().item<std::int64_t>();
  return static_cast<int>(std::min(reached, logits.size(0) - 1));
}

}  // namespace

Result<void> train_model(Corpus corpus, const TrainOptions& options) {
  try {
    return run_training(corpus, options);
  } catch (const std::exception& failure) {  // c10::Error, or a full disk under a checkpoint
    return Error{Errc::compute_failed, failure.what()};
  }
}

Result<std::vector<int>> continue_prompt(const std::filesystem::path& folder,
                                         std::vector<int> prompt, const SampleOptions& options) {
  const torch::NoGradGuard no_grad;
  auto saved = read_safetensors(folder / "model.safetensors");
  if (!saved) return saved.error();
  DecoderShape shape;
  const SavedTensor& embedding = (*saved)["model.embed_tokens.weight"];
  if (!embedding.shape.empty()) shape.vocabulary = embedding.shape[0];
  Decoder decoder(shape);
  for (const auto& [name, tensor] : decoder.parameters()) {
    SavedTensor& file = (*saved)[name];
    if (file.shape != tensor.sizes().vec()) {
      return Error{Errc::model_malformed, name + " has another shape"};
    }
    torch::Tensor(tensor).copy_(torch::from_blob(file.values.data(), file.shape, torch::kBFloat16));
  }
  std::vector<std::int64_t> ids(prompt.begin(), prompt.end());
  std::vector<int> said;
  Random random(options.seed);
  while (static_cast<std::int64_t>(ids.size()) < shape.context &&
         static_cast<int>(said.size()) < options.max_tokens) {
    const auto input = torch::tensor(ids).view({1, -1});
    const auto logits = decoder.logits(input, torch::zeros_like(input))[0][-1];
    const int id = pick(logits, options.temperature, random);
    if (id == kEosId) break;
    ids.push_back(id);
    said.push_back(id);
  }
  return said;
}

}  // namespace farmesh::train
