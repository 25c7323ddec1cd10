// A node whose layers nobody named: it looks who serves what, takes what is served worst, and goes
// elsewhere when it is needed more there.
#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "model/engine_loader.hpp"
#include "model/model_folder.hpp"
#include "model/model_hash.hpp"
#include "node/capacity.hpp"
#include "node/hardware.hpp"
#include "node/serving_node.hpp"

namespace farmesh::node {
namespace {

using Clock = std::chrono::steady_clock;

// Records come in bursts: a view that was quiet for so long is taken for the whole of it.
constexpr std::chrono::milliseconds kQuiet{500};
// Between telling that this node leaves its layers and leaving them: who does the same at the same
// time is heard of in this time.
constexpr std::chrono::milliseconds kSecondLook{1'000};
// In which a move should pay.
constexpr std::chrono::hours kHorizon{1};

std::string text_of(Span span) { return fmt::format("{}:{}", span.begin, span.end); }

void tell(const std::string& what) { log(LogLevel::info, "node", what); }

}  // namespace

Result<void> ServingNode::start_where_needed() {
  if (!options_.discovery.enabled()) {
    return {Errc::config_invalid,
            "layers are chosen where the mesh can be asked: say how to find it"};
  }
  const Result<model::ModelConfig> config = model::read_model_config(source_->folder());
  if (!config) return config.error();
  const Result<ModelHash> hash = source_->hash();
  if (!hash) return hash.error();
  stage_.config = *config;
  stage_.hash = *hash;
  model_hash_ = model::to_hex(stage_.hash);

  if (const Result<void> joined = join_mesh(); !joined) return joined.error();
  await_first_view();
  if (const Result<void> measured = measure_room(); !measured) return measured.error();
  if (const Result<void> opened = open_what_fits(); !opened) return opened.error();
  publish();
  begin_life();
  return {};
}

void ServingNode::await_first_view() {
  const TimePoint deadline = Clock::now() + options_.choose_layers->first_look;
  std::unique_lock lock(mutex_);
  for (;;) {
    const std::uint64_t seen = view_version_;
    const TimePoint until = seen == 0 ? deadline : std::min(deadline, Clock::now() + kQuiet);
    if (!changed_.wait_until(lock, until, [&] { return view_version_ != seen; })) return;
  }
}

/// Chooses how many layers this machine holds, and the precision.
Result<void> ServingNode::measure_room() {
  const Hardware hardware = detect_hardware();
  tell("this machine: " + node::describe(hardware));
  std::vector<discovery::RecordPtr> records;
  runtime_.run_blocking([&] { records = mesh_->directory().view(); });
  std::vector<std::string_view> classes;
  for (const discovery::RecordPtr& one : records) {
    if (!one->record.span.empty()) classes.emplace_back(one->record.numerics_class);
  }
  CapacityQuestion question;
  question.free_bytes = hardware.free_bytes;
  if (options_.device.kind != DeviceKind::cpu) {
    const Result<model::DeviceMemory> gpu = model::device_memory(options_.device);
    if (!gpu) return gpu.error();
    question.free_bytes = gpu->free_bytes;
  }
  question.most_bytes = options_.choose_layers->memory_bytes;
  question.max_layers = options_.choose_layers->max_layers;
  question.cache_tokens = options_.cache_tokens;
  question.head = options_.head;
  question.precision = options_.precision;
  question.kv = options_.kv;
  question.usual = default_precision(stage_.config);
  question.quantised = options_.numerics != Numerics::fast;
  question.classes = classes;
  const Result<Capacity> room = capacity_of(stage_.config, question);
  if (!room) return room.error();
  room_ = *room;
  precision_ = room_.precision;
  return {};
}

/// Takes the layers that are wanted most. What the system does not give after all is not promised
/// to anybody: then it tries with half as many.
Result<void> ServingNode::open_what_fits() {
  for (;; room_.layers /= 2) {
    const MeshCoverage mesh = coverage();
    const Span layers = first_span(mesh, seeker());
    if (layers.empty()) return {Errc::out_of_memory, "the system has no memory for one layer"};
    tell(
        fmt::format("{} nodes serve this model, {} of its {} layers are nobody's; room for {} in "
                    "{}: taking {}",
                    mesh.others.size(), uncovered_layers(mesh), mesh.num_layers, room_.layers,
                    name(room_.precision), text_of(layers)));
    const bool on_cpu = options_.device.kind == DeviceKind::cpu;  // a GPU's loading shows it
    if (on_cpu && !may_allocate(room_.needs.of(layers.size()))) continue;
    const Result<void> opened = open(layers);
    if (opened || opened.error().code != Errc::out_of_memory) return opened;
    close(std::chrono::milliseconds(0));
  }
}

void ServingNode::begin_life() {
  const LayerChoice& choice = *options_.choose_layers;
  if (choice.look_every.count() == 0) return;
  LifeOptions life;
  life.look_every = choice.look_every;
  life.hole_patience = choice.hole_patience;
  for (std::size_t i = 0; i < sizeof life.seed; ++i) {
    life.seed = life.seed << 8 | runtime_.node_id()[i];
  }
  Life::Actions actions;
  actions.look = [this] { return look(); };
  actions.move = [this](const SpanMove& wanted) { move(wanted); };
  runtime_.run_blocking([&] { life_ = std::make_unique<Life>(life, std::move(actions)); });
}

MeshCoverage ServingNode::coverage() {
  MeshCoverage mesh{stage_.config.num_layers, {}};
  runtime_.run_blocking([&] {
    for (const discovery::RecordPtr& one : mesh_->directory().view()) {
      const discovery::NodeRecord& record = one->record;
      // What this node said in an earlier life may still be about.
      if (record.id == runtime_.node_id()) continue;
      if (record.span.empty() || record.num_layers != mesh.num_layers) continue;
      mesh.others.push_back({record.id, record.span, record.layer_us});
    }
  });
  return mesh;
}

SpanSeeker ServingNode::seeker() {
  SpanSeeker seeker;
  seeker.self = {runtime_.node_id(), layers(), stage_.speed ? stage_.speed->layer_us() : 0};
  seeker.capacity = room_.layers;
  seeker.moving_cost = std::chrono::duration<double>(load_time_) / kHorizon;
  return seeker;
}

std::optional<SpanMove> ServingNode::look() {
  const MeshCoverage mesh = coverage();
  const SpanSeeker self = seeker();
  if (!self.self.span.empty()) return worthwhile_move(mesh, self);
  return SpanMove{first_span(mesh, self), MoveReason::closes_hole};  // a move failed before
}

void ServingNode::move(const SpanMove& wanted) {
  const Span held = layers();
  tell(fmt::format("leaving layers {} for {}: {}", text_of(held), text_of(wanted.span),
                   name(wanted.reason)));
  if (!held.empty() && !give_up(wanted, held)) return;
  Result<void> opened = open(wanted.span);
  if (!opened && !held.empty()) {
    log(LogLevel::warning, "node", "going back: " + opened.error().to_string());
    close(std::chrono::milliseconds(0));
    opened = open(held);
  }
  if (!opened) {
    log(LogLevel::error, "node", "serving nothing for now: " + opened.error().to_string());
    close(std::chrono::milliseconds(0));
    return;
  }
  publish();
  if (options_.choose_layers->on_layers) options_.choose_layers->on_layers(layers());
}

/// False: it keeps its layers, or ends altogether.
bool ServingNode::give_up(const SpanMove& wanted, Span held) {
  leave_mesh();
  if (stops_within(kSecondLook)) return false;
  if (!may_leave(coverage(), held, wanted.span)) {
    tell("staying at layers " + text_of(held) + ": others have just left them");
    publish();
    return false;
  }
  // A hole stops everybody's sessions, so these are handed over at once.
  const bool patient = wanted.reason == MoveReason::balance;
  close(patient ? options_.choose_layers->drain : std::chrono::milliseconds(0));
  return !stops_within(std::chrono::milliseconds(0));
}

bool ServingNode::stops_within(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [this] { return state_ != State::running; });
}

}  // namespace farmesh::node
