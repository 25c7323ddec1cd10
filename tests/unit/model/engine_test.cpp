// The engine's face: what it reports, what it refuses, and that a refusal changes nothing.
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "model/synth.hpp"
#include "support/temp_dir.hpp"
#include "unit/model/engine_fixture.hpp"

namespace farmesh::model {
namespace {

using farmesh::test::TempDir;
using test::Bytes;

/// A folder's tensors, with some of them replaced or missing, and a count of releases.
class Doctored final : public WeightSource {
 public:
  explicit Doctored(const WeightSource& source) : source_(source) {}

  Result<TensorView> find(std::string_view name) const override {
    if (name == missing) return {Errc::config_mismatch, std::string(name) + " is missing"};
    Result<TensorView> found = source_.find(name);
    if (found && name == reshaped) found->shape.back() += 1;
    if (found && name == retyped) found->dtype = DType::i8;
    return found;
  }
  void release(std::string_view name) const override { ++released[std::string(name)]; }

  std::string missing, reshaped, retyped;
  mutable std::map<std::string, int> released;

 private:
  const WeightSource& source_;
};

struct Tiny {
  TempDir folder;
  std::shared_ptr<const ModelFolder> model;

  Tiny() {
    test::find_engine_library();
    REQUIRE(write_synthetic_model(folder.path(), {}));
    model = *ModelFolder::open(folder.path());
  }
  const ModelConfig& config() const { return model->config(); }
};

EngineOptions whole(Precision precision = Precision::bf16) {
  EngineOptions options;
  options.blocks = {0, 2};
  options.head = true;
  options.precision = precision;
  options.threads = 2;
  return options;
}

Errc load_code(const ModelConfig& config, const WeightSource& source,
               const EngineOptions& options) {
  const auto engine = load_engine(config, source, options);
  return engine ? Errc::ok : engine.error().code;
}

TEST_SUITE("model/engine") {
  TEST_CASE("an engine tells what it holds") {
    const Tiny tiny;
    EngineOptions options = whole();
    std::uint64_t done = 0, total = 0;
    options.on_progress = [&](std::uint64_t now, std::uint64_t all) {
      CHECK(now > done);
      done = now;
      total = all;
    };
    const auto engine = test::load(tiny.config(), *tiny.model, options);
    const EngineInfo& info = engine->info();
    CHECK(info.blocks == Span{0, 2});
    CHECK(info.head);
    CHECK(info.residual == DType::bf16);
    CHECK(info.hidden_size == 32);
    CHECK(info.vocab_size == 320);
    CHECK(info.page_tokens == 16);
    CHECK(info.page_bytes == 2 * (16 * 16 + 16 * 2 * 16) * 2);  // head_dim 8: values padded to 16
    CHECK(info.numerics_class == "bf16/exact-2/fma");
    CHECK((done == total && total == info.weight_bytes - 5 * 32 * 2));  // norms are held in f32
    const auto wide = test::load(tiny.config(), *tiny.model, whole(Precision::f32));
    CHECK(wide->info().residual == DType::f32);
    CHECK(wide->info().numerics_class == "f32/exact-2/fma");
    CHECK(wide->info().step_bytes == wide->info().weight_bytes - 320 * 32 * 4);
  }

  TEST_CASE("quantised weights name their precision, and take the bytes that they promise") {
    const Tiny tiny;
    const std::uint64_t norms = 5 * 32 * 4;
    // Every inner dimension counts as a multiple of 64, outputs as one of 16.
    const std::uint64_t vocabulary = 2 * 320 * 64;
    const std::uint64_t layers = 2 * (64 + 32 + 2 * 64 + 32) * 64;
    const auto int8 = test::load(tiny.config(), *tiny.model, whole(Precision::int8));
    CHECK(int8->info().numerics_class == "int8/exact-2/fma");
    CHECK(int8->info().residual == DType::bf16);
    const auto int4 = test::load(tiny.config(), *tiny.model, whole(Precision::int4));
    CHECK(int4->info().numerics_class == "int4/exact-2/fma");
    CHECK(int4->info().residual == DType::bf16);
    CHECK(int8->info().weight_bytes == norms + (vocabulary + layers) * 34 / 32);
    CHECK(int4->info().weight_bytes == norms + vocabulary * 34 / 32 + layers * 18 / 32);
    CHECK(int4->info().step_bytes == int4->info().weight_bytes - vocabulary / 2 * 34 / 32);
    CHECK(int8->info().page_bytes == int4->info().page_bytes);
  }

  TEST_CASE("a cache of another format is named in the numerics class, and its pages told") {
    const Tiny tiny;
    const auto demo = *ModelFolder::open(FARMESH_SOURCE_DIR "/models/demo");  // head_dim 32
    const auto info = [&](const ModelFolder& model, EngineOptions options, auto change) {
      change(options);
      return test::load(model.config(), model, options)->info();
    };
    const EngineInfo wide = info(*demo, whole(), [](auto&) {});
    const EngineInfo narrow = info(*demo, whole(), [](auto& o) { o.kv = KvFormat::int8; });
    CHECK(wide.page_bytes == 2 * (2 * 32 * 16 * 2) * 2);                 // layers, keys, values
    CHECK(narrow.page_bytes == 2 * (2 * (32 * 16 + 64) + 2 * 32 * 16));  // two scales a position
    CHECK(narrow.numerics_class == "bf16/exact-2/fma/kv-int8");
    CHECK(narrow.residual == DType::bf16);

    const auto class_of = [&](auto change) {
      return info(*tiny.model, whole(), change).numerics_class;
    };
    CHECK(class_of([](auto& o) { o.kv = KvFormat::bf16; }) == "bf16/exact-2/fma");
    CHECK(class_of([](auto& o) { o.kv = KvFormat::f32; }) == "bf16/exact-2/fma/kv-f32");
    CHECK(class_of([](auto& o) {
            o.precision = Precision::f32;
            o.kv = KvFormat::bf16;
          }) == "f32/exact-2/fma/kv-bf16");
    CHECK(class_of([](auto& o) {  // a head keeps no cache, and belongs to the peers that do
            o.precision = Precision::int4;
            o.kv = KvFormat::int8;
            o.blocks = {0, 0};
          }) == "int4/exact-2/fma/kv-int8");
  }

  TEST_CASE("a device that is not there is refused by name, and no other takes its place") {
    const Tiny tiny;
    const Device absent{DeviceKind::cuda, Device::kMostDevices - 1};
    EngineOptions options = whole();
    options.device = absent;
    for (const Precision precision : {Precision::bf16, Precision::f16, Precision::int4}) {
      options.precision = precision;
      const auto refused = load_engine(tiny.config(), *tiny.model, options);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == Errc::engine_unavailable);
      CHECK(refused.error().detail.find("cuda:63") != std::string::npos);
    }
    options.kv = KvFormat::int8;
    CHECK(load_code(tiny.config(), *tiny.model, options) == Errc::model_unsupported);
    CHECK(device_memory(absent).error().code == Errc::engine_unavailable);
    const auto host = device_memory({});
    REQUIRE(host);
    CHECK(host->free_bytes > 0);
    CHECK(host->free_bytes <= host->total_bytes);
  }

  TEST_CASE("devices have names") {
    CHECK(device_from_name("cpu") == Device{});
    CHECK(device_from_name("cuda") == Device{DeviceKind::cuda, 0});
    CHECK(device_from_name("cuda:3") == Device{DeviceKind::cuda, 3});
    CHECK(name(Device{}) == "cpu");
    CHECK(name(Device{DeviceKind::cuda, 3}) == "cuda:3");
    for (const char* text : {"", "gpu", "cuda:", "cuda3", "cuda:x", "cuda:-1", "cuda:64", "cuda:1 ",
                             "cuda:99999999999", "cpu:0", "CUDA"}) {
      CAPTURE(text);
      CHECK_FALSE(device_from_name(text));
    }
  }

  TEST_CASE("fused numerics name the library and the device, and tell what they hold") {
    const Tiny tiny;
    EngineOptions options = whole();
    options.numerics = Numerics::fused;
    const auto info = [&](Precision precision) {
      options.precision = precision;
      return test::load(tiny.config(), *tiny.model, options)->info();
    };
    const EngineInfo bf16 = info(Precision::bf16);
    CHECK(bf16.numerics_class.starts_with("bf16/fused/torch-"));
    CHECK(bf16.numerics_class.ends_with("/cpu"));
    CHECK(bf16.residual == DType::bf16);
    CHECK(bf16.page_bytes == 2 * 2 * 16 * 16 * 2);  // layers, keys and values; 2 heads of 8
    CHECK(info(Precision::f32).numerics_class.starts_with("f32/fused/torch-"));
    const EngineInfo int8 = info(Precision::int8), int4 = info(Precision::int4);
    CHECK(int8.numerics_class.starts_with("int8/fused/torch-"));
    CHECK(int8.weight_bytes < bf16.weight_bytes * 9 / 16 + 1000);  // norms are in f32 in both
    CHECK(int4.weight_bytes < int8.weight_bytes);
  }

  TEST_CASE("fast numerics generate in a class of their own") {
    const Tiny tiny;
    const std::vector<TokenId> prompt{3, 1, 4, 1, 5};
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      EngineOptions options = whole(precision);
      const std::vector<Span> all{options.blocks};
      test::Chain exact(tiny.config(), *tiny.model, all, options);
      options.numerics = Numerics::fast;
      test::Chain fast(tiny.config(), *tiny.model, all, options);
      const std::string& its_class = fast.engine(0).info().numerics_class;
      CHECK(its_class.starts_with(std::string(name(precision)) + "/fast/torch-"));
      CHECK(its_class != exact.engine(0).info().numerics_class);
      const auto pages = test::pages_from(0, 4);
      CHECK(test::greedy(fast, prompt, 20, 5, pages).size() == 20);
    }
  }

  TEST_CASE("threads that are bound to cores compute what others do") {
    const Tiny tiny;
    EngineOptions options = whole();
    options.threads = 2;
    const std::vector<Span> all{options.blocks};
    const std::vector<test::Chain::Step> prompt{{{3, 1, 4, 1, 5}, 0, test::pages_from(0, 1)}};
    const std::vector<Bytes> free =
        test::Chain(tiny.config(), *tiny.model, all, options).run(prompt);
    options.pin_threads = 1;
    std::vector<Bytes> bound;
    // The caller stays bound, and that shall not be the thread of the other tests.
    std::thread([&] {
      bound = test::Chain(tiny.config(), *tiny.model, all, options).run(prompt);
    }).join();
    CHECK(bound == free);
  }

  TEST_CASE("what quantising takes on a device is what it takes in the kernels") {
    const Tiny tiny;
    for (const Precision precision : {Precision::int8, Precision::int4}) {
      std::map<std::string, WeightError> told[2];
      for (const Numerics numerics : {Numerics::exact, Numerics::fused}) {
        EngineOptions options = whole(precision);
        options.numerics = numerics;
        options.on_quantised = [&](const std::vector<std::string>& tensors, std::uint64_t,
                                   const WeightError& error) {
          told[numerics == Numerics::fused][tensors.front()] = error;
        };
        test::load(tiny.config(), *tiny.model, options);
      }
      REQUIRE(told[0].size() == 2 + 2 * 4);
      REQUIRE(told[1].size() == told[0].size());
      for (const auto& [tensor, error] : told[0]) {
        CAPTURE(tensor);
        // Dequantised weights are rounded to bf16, which adds a little to the error of int8.
        CHECK(told[1].at(tensor).rms > 0.8 * error.rms);
        CHECK(told[1].at(tensor).rms < 1.02 * error.rms + 0.001);
      }
    }
  }

  TEST_CASE("what quantising takes is told matrix by matrix, and only when asked") {
    const Tiny tiny;
    EngineOptions options = whole(Precision::int4);
    std::vector<std::string> told;
    options.on_quantised = [&](const std::vector<std::string>& tensors, std::uint64_t bytes,
                               const WeightError& error) {
      told.push_back(tensors.front());
      CHECK(bytes > 0);
      CHECK(error.rms > 0.001);
      CHECK(error.rms < 0.15);
      CHECK(error.worst > error.rms);
    };
    test::load(tiny.config(), *tiny.model, options);
    CHECK(told.size() == 2 + 2 * 4);  // the vocabulary's two; qkv, out, gate and up, down
    CHECK(told.front() == "model.embed_tokens.weight");
    told.clear();
    options.precision = Precision::bf16;
    test::load(tiny.config(), *tiny.model, options);
    CHECK(told.empty());
  }

  TEST_CASE("kept matrices are loaded, unless they are of other weights or damaged") {
    const Tiny tiny;
    const TempDir other_folder, store;
    SynthOptions other_options;
    other_options.seed = 2;
    REQUIRE(write_synthetic_model(other_folder.path(), other_options));
    const auto other = *ModelFolder::open(other_folder.path());
    Precision precision = Precision::int4;
    const auto embedding = [&](const ModelFolder& model, const PackedFiles& where) {
      EngineOptions options = whole(precision);
      options.packed = where;
      const auto engine = test::load(model.config(), model, options);
      const std::vector<TokenId> ids{3, 77};
      Bytes hidden(2 * 64);
      REQUIRE(engine->embed(ids, hidden));
      return hidden;
    };
    ModelHash content{}, changed{};
    changed.bytes[31] = 1;
    const Bytes first = embedding(*tiny.model, {});
    const Bytes second = embedding(*other, {});
    REQUIRE(first != second);
    CHECK(embedding(*tiny.model, {store.path() / "new", content, true}) == first);
    const auto file = store.path() / "new" / "model.embed_tokens+0.packed";
    REQUIRE(std::filesystem::file_size(file) == 4096 + 320 * 64 * 34 / 32);
    CHECK(std::distance(std::filesystem::directory_iterator(store.path() / "new"), {}) == 10);

    // The other model's weights would give other rows: these come from the files.
    CHECK(embedding(*other, {store.path() / "new", content, false}) == first);
    CHECK(embedding(*other, {store.path() / "new", changed, false}) == second);
    CHECK(embedding(*other, {store.path() / "absent", content, false}) == second);
    const auto change = [&](std::streamoff at, char byte) {
      std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
      bytes.seekp(at);
      bytes.put(byte);
    };
    change(4096 + 320 * 64 * 34 / 32 - 1, '\x55');
    CHECK(embedding(*other, {store.path() / "new", content, false}) == second);
    CHECK(embedding(*tiny.model, {store.path() / "new", content, true}) == first);  // made again
    CHECK(embedding(*other, {store.path() / "new", content, false}) == first);
    std::filesystem::resize_file(file, 1000);
    CHECK(embedding(*other, {store.path() / "new", content, false}) == second);

    precision = Precision::bf16;  // is packed and kept as well
    const Bytes exact = embedding(*tiny.model, {store.path() / "bf16", content, true});
    CHECK(exact == embedding(*tiny.model, {}));
    CHECK(embedding(*other, {store.path() / "bf16", content, false}) == exact);
    CHECK(embedding(*other, {store.path() / "new", content, false}) != exact);  // in int4

    EngineOptions nowhere = whole(Precision::int8);
    nowhere.packed = {file, content, true};  // a file where a folder should be
    CHECK(load_code(tiny.config(), *tiny.model, nowhere) == Errc::io_error);
  }

  TEST_CASE("every tensor is released once it is packed, and none of other layers is touched") {
    const Tiny tiny;
    const Doctored source(*tiny.model);
    EngineOptions options = whole();
    options.blocks = {1, 2};
    options.head = false;
    test::load(tiny.config(), source, options);
    CHECK(source.released.size() == 9);
    for (const auto& [name, times] : source.released) {
      CHECK(name.starts_with("model.layers.1."));
      CHECK(times == 1);
    }
  }

  TEST_CASE("tensors that contradict the config are refused by name") {
    const Tiny tiny;
    const std::string name = "model.layers.1.mlp.down_proj.weight";
    Doctored source(*tiny.model);
    source.missing = name;
    CHECK(load_code(tiny.config(), source, whole()) == Errc::config_mismatch);
    source.missing.clear();
    source.reshaped = name;
    const auto reshaped = load_engine(tiny.config(), source, whole());
    REQUIRE_FALSE(reshaped);
    CHECK(reshaped.error().code == Errc::config_mismatch);
    CHECK(reshaped.error().detail.find(name) != std::string::npos);
    source.reshaped.clear();
    source.retyped = name;
    CHECK(load_code(tiny.config(), source, whole()) == Errc::model_unsupported);
  }

  TEST_CASE("options that make no sense are refused") {
    const Tiny tiny;
    const auto code = [&](auto change) {
      EngineOptions options = whole();
      change(options);
      return load_code(tiny.config(), *tiny.model, options);
    };
    CHECK(code([](auto& o) { o.blocks = {0, 3}; }) == Errc::invalid_argument);
    CHECK(code([](auto& o) { o.blocks = {2, 1}; }) == Errc::invalid_argument);
    CHECK(code([](auto& o) { o.blocks = {1, 1}, o.head = false; }) == Errc::invalid_argument);
    CHECK(code([](auto& o) { o.precision = Precision::f16; }) == Errc::model_unsupported);
    for (const Precision precision : {Precision::int8, Precision::int4}) {
      CHECK(code([&](auto& o) {
              o.precision = precision;
              o.numerics = Numerics::fast;
            }) == Errc::model_unsupported);
    }
    for (const Numerics numerics : {Numerics::fast, Numerics::fused}) {
      CHECK(code([&](auto& o) {
              o.kv = KvFormat::int8;
              o.numerics = numerics;
            }) == Errc::model_unsupported);
      CHECK(code([&](auto& o) {
              o.precision = Precision::f16;
              o.numerics = numerics;
            }) == Errc::model_unsupported);
    }
    for (const Numerics numerics : {Numerics::exact, Numerics::fast}) {
      CHECK(code([&](auto& o) {
              o.device = {DeviceKind::cuda, 0};
              o.numerics = numerics;
            }) == Errc::invalid_argument);
    }
    for (const int core : {-1, 1'024}) {
      CHECK(code([&](auto& o) { o.pin_threads = core; }) == Errc::invalid_argument);
    }
    for (const Numerics numerics : {Numerics::fast, Numerics::fused}) {
      CHECK(code([&](auto& o) {
              o.pin_threads = 0;
              o.numerics = numerics;
            }) == Errc::invalid_argument);
    }
    const test::WithEnvironment forced("FARMESH_ISA", "vax");
    CHECK(code([](auto&) {}) == Errc::config_invalid);
  }

  TEST_CASE("a forward pass that cannot be is refused and computes nothing") {
    const Tiny tiny;
    const auto engine = test::load(tiny.config(), *tiny.model, whole(), 4);
    const std::size_t row = 32 * 2;
    const Bytes in(17 * row);
    Bytes out(17 * row, std::byte{9});
    const std::vector<std::uint32_t> pages{0, 3};
    const auto code = [&](Span blocks, SequenceRows sequence) {
      const Result<void> done = engine->forward(blocks, {&sequence, 1});
      return done ? Errc::ok : done.error().code;
    };
    const SequenceRows good{pages, 0, 17, in, out};
    const auto change = [&](auto edit) {
      SequenceRows sequence = good;
      edit(sequence);
      return code({0, 2}, sequence);
    };
    const std::vector<std::uint32_t> unknown{0, 4};
    CHECK(change([&](auto& s) { s.pages = unknown; }) == Errc::invalid_argument);
    CHECK(change([&](auto& s) { s.pages = s.pages.first(1); }) == Errc::invalid_argument);
    CHECK(change([&](auto& s) { s.position = 16; }) == Errc::invalid_argument);
    CHECK(change([&](auto& s) { s.position = ~0U; }) == Errc::invalid_argument);
    CHECK(change([&](auto& s) { s.rows = 16; }) == Errc::invalid_argument);
    CHECK(change([&](auto& s) { s.input = s.input.first(5); }) == Errc::invalid_argument);
    CHECK(code({0, 3}, good) == Errc::invalid_argument);
    CHECK(code({1, 1}, good) == Errc::invalid_argument);
    CHECK(out == Bytes(17 * row, std::byte{9}));
    CHECK(code({0, 2}, good) == Errc::ok);
    CHECK(out != Bytes(17 * row, std::byte{9}));
  }

  TEST_CASE("head calls check ids and sizes, and need a head") {
    const Tiny tiny;
    const auto engine = test::load(tiny.config(), *tiny.model, whole());
    Bytes hidden(2 * 64);
    std::vector<float> logits(320);
    const std::vector<TokenId> good{1, 319}, outside{1, 320};
    CHECK(engine->embed(good, hidden));
    CHECK(engine->embed(outside, hidden).error().code == Errc::bad_payload);
    CHECK(engine->embed({good.data(), 1}, hidden).error().code == Errc::invalid_argument);
    CHECK(engine->logits(hidden, 2, logits).error().code == Errc::invalid_argument);
    CHECK(engine->logits(ByteView(hidden).first(64), 1, logits));
    EngineOptions blocks_only = whole();
    blocks_only.head = false;
    const auto blocks = test::load(tiny.config(), *tiny.model, blocks_only);
    CHECK(blocks->embed(good, hidden).error().code == Errc::head_unavailable);
    CHECK(blocks->logits(ByteView(hidden).first(64), 1, logits).error().code ==
          Errc::head_unavailable);
  }

  TEST_CASE("pages are reserved once, and too many are refused whole") {
    const Tiny tiny;
    Result<std::unique_ptr<StageEngine>> engine = load_engine(tiny.config(), *tiny.model, whole());
    REQUIRE(engine);
    CHECK((*engine)->reserve_pages(~0U).error().code == Errc::out_of_memory);
    CHECK((*engine)->reserve_pages(2));
    CHECK((*engine)->reserve_pages(2).error().code == Errc::invalid_argument);
    CHECK((*engine)->copy_page(0, 2).error().code == Errc::invalid_argument);
  }

  TEST_CASE("a copied page continues a session as the original does") {
    const Tiny tiny;
    for (const KvFormat kv : {KvFormat::bf16, KvFormat::int8}) {
      EngineOptions options = whole();
      options.kv = kv;
      test::Chain chain(tiny.config(), *tiny.model, {{0, 2}}, options);
      const std::vector<TokenId> ids{1, 9, 8, 7, 6};
      chain.run({{ids, 0, {5}}});
      REQUIRE(chain.engine(0).copy_page(5, 6));
      const Bytes original = chain.run({{{40}, 5, {5}}})[0];
      CHECK(chain.run({{{40}, 5, {6}}})[0] == original);
      CHECK(chain.run({{{41}, 5, {6}}})[0] != original);
    }
  }

  TEST_CASE(
      "a pass of many rows is cut in slices, and fuses its products' inputs, without a trace") {
    const Tiny tiny;
    test::Chain chain(tiny.config(), *tiny.model, {{0, 2}}, whole());
    std::vector<TokenId> ids;
    for (TokenId i = 0; i < 700; ++i) ids.push_back(i * 7 % 320);
    const auto pages = test::pages_from(0, 50);
    const Bytes together = chain.run({{ids, 0, pages}})[0];
    Bytes parts;
    for (std::uint32_t at = 0; at < ids.size(); at += 10) {  // too few rows to be fused
      const std::vector<TokenId> part(ids.begin() + at, ids.begin() + at + 10);
      const Bytes rows = chain.run({{part, at, pages}})[0];
      parts.insert(parts.end(), rows.begin(), rows.end());
    }
    CHECK(parts == together);
  }
}

}  // namespace
}  // namespace farmesh::model
