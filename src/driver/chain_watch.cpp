// Hops that are late: which of them is to blame, and what becomes of it.
//
// A late step makes the driver ask every hop of the flow, at once, whether it lives, how many
// rows it has received and how many it has computed. Silence, rows that left one hop and never
// reached the next, and rows that one hop keeps are three findings with three remedies.

#include <algorithm>

#include "driver/chain_impl.hpp"

namespace farmesh::driver {
namespace {

constexpr double kLateFactor = 2;        // times the slowest recent step
constexpr double kBytesPerSecond = 1e6;  // slower links would look cut; none carries a model
constexpr int kSilentRoundTrips = 8;
constexpr int kPatienceWithLiving = 15;  // times its patience, for a slow hop without a spare
constexpr std::chrono::milliseconds kLongestPause{1'000};  // between two looks

Duration scaled(Duration time, double factor) {
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, Duration::period>(time) * factor);
}

}  // namespace

struct Examination {
  struct Finding {
    std::size_t hop = 0;
    std::uint32_t computed = 0;
    std::uint32_t received = 0;
    bool knows_received = false;
    std::uint32_t queued_rows = 0;
  };
  std::size_t pending = 0;
  std::vector<Finding> findings;  // in order of answers
};

/// Where the next rows are.
struct Sighting {
  std::size_t hop = 0;  // that has not passed them on; one past the flow: they were all passed
  bool cut = false;     // it never got them
};

Duration Chain::Impl::late_after(std::uint32_t rows) const {
  const Duration usual = patience.slowest(rows);
  if (usual == Duration::zero()) return options.first_late;
  return std::max<Duration>(options.min_late, scaled(usual, kLateFactor));
}

/// How long rows may be between two hops, after they were first missed there.
Duration Chain::Impl::lost_after(std::uint32_t rows) const {
  const double bytes = static_cast<double>(rows) * options.hidden_size *
                       static_cast<double>(bytes_of(options.residual));
  const std::chrono::duration<double> transfer(bytes / kBytesPerSecond);
  const Duration usual = patience.slowest(rows);
  const Duration margin = usual == Duration::zero()
                              ? Duration(options.first_late)
                              : std::max<Duration>(options.min_late * 2, usual);
  return margin + std::chrono::duration_cast<Duration>(transfer);
}

Duration Chain::Impl::silence_of(const Hop& hop) const {
  const Duration round_trip = hop.connection->round_trip();
  return std::max<Duration>(options.silence, round_trip * kSilentRoundTrips);
}

net::Task<void> Chain::Impl::examine(const Flow& flow, Progress& progress) {
  const auto examination = std::make_shared<Examination>();
  const std::size_t begin = flow.from_history ? flow.first - 1 : flow.first;
  for (std::size_t i = begin; i <= flow.last; ++i) {
    ++examination->pending;
    net::spawn(peers.clock().executor(), "driver probe",
               probe(shared_from_this(), hops[i], i, now() + silence_of(*hops[i]), examination));
  }
  while (examination->pending > 0 && !closed && !any_lost()) {
    changed.reset();
    co_await changed.wait(TimePoint::max());
  }
  if (closed || any_lost() || !replies.empty()) co_return;
  judge(flow, progress, see(flow, progress, *examination));
  const Duration pause = options.min_late * (1 << std::min(++progress.looks, 3)) / 2;
  progress.next_look = now() + std::min<Duration>(pause, kLongestPause);
}

Sighting Chain::Impl::see(const Flow& flow, const Progress& progress,
                          const Examination& examination) const {
  Sighting sighting{flow.last + 1, true};
  for (const Examination::Finding& finding : examination.findings) {
    if (finding.hop < flow.first || finding.computed > progress.done) continue;
    if (finding.hop >= sighting.hop) continue;
    sighting.hop = finding.hop;
    sighting.cut =
        finding.knows_received ? finding.received <= progress.done : finding.queued_rows == 0;
  }
  return sighting;
}

void Chain::Impl::judge(const Flow& flow, Progress& progress, const Sighting& sighting) {
  if (progress.seen_at != sighting.hop || progress.seen_cut != sighting.cut) {
    progress.seen_at = sighting.hop;
    progress.seen_cut = sighting.cut;
    progress.seen_since = now();
    return;
  }
  if (!sighting.cut) return judge_slow(flow, progress, sighting.hop);
  if (now() - progress.seen_since < lost_after(rows_awaited(flow, progress))) return;
  const bool passed_by_all = sighting.hop > flow.last;  // the answer itself is missing
  const std::size_t receiver = passed_by_all ? flow.last : sighting.hop;
  Error error{Errc::timeout, hops[receiver]->address + " has lost rows"};
  const std::size_t begin = flow.from_history ? flow.first - 1 : flow.first;
  if (!passed_by_all && receiver > begin) {
    lose_between(receiver - 1, receiver, std::move(error));
  } else {
    lose(*hops[receiver], std::move(error));
  }
}

/// A hop has the rows and does not pass them on. A spare is made ready while it is waited for;
/// whichever comes first goes on.
void Chain::Impl::judge_slow(const Flow& flow, Progress& progress, std::size_t index) {
  const std::shared_ptr<Hop> hop = hops[index];
  const std::uint32_t rows = rows_awaited(flow, progress);
  // A hop that only replays has no times of its own yet: those of whole steps bound it.
  const Patience& measure = flow.replay ? patience : hop->patience;
  const Duration allowed = measure.of(rows);
  const Duration waited = now() - progress.seen_since;
  if (waited < allowed) return;
  Error error{Errc::timeout, hop->address + " is too slow"};
  if (waited > std::max(allowed, patience.of(rows)) * kPatienceWithLiving) {
    return lose(*hop, std::move(error));
  }
  // Nobody knows how long such rows take: another would be no faster, and begin again.
  if (measure.slowest(rows) == Duration::zero()) return;
  if (flow.replay) {
    if (spare_for(*hop)) lose(*hop, std::move(error));
    return;
  }
  const bool spoilt = hop->standby && hop->standby->failed && !hop->standby->filling;
  if (spoilt) drop_standby(*hop);
  if (!hop->standby) {
    add_standby(hop, true);
  } else if (hop->standby->opened && hop->standby->held >= positions) {
    lose(*hop, std::move(error));  // the spare takes over
  }
}

net::Task<void> Chain::Impl::probe(Self self, std::shared_ptr<Hop> hop, std::size_t index,
                                   TimePoint deadline, std::shared_ptr<Examination> examination) {
  const std::shared_ptr<net::Connection> connection = hop->connection;
  auto asking_history = connection->call(
      wire::Verb::history, wire::encode(wire::HistoryQuery{self->options.session}), {}, deadline);
  const Result<wire::Frame> history = co_await std::move(asking_history);
  const auto reply = history ? wire::decode<wire::HistoryReply>(history->header) : history.error();
  Examination::Finding finding{index, 0, 0, false, 0};
  Error error = reply ? Error{} : reply.error();
  if (reply) {
    finding.computed = reply->positions;
    finding.received = std::max(reply->received, reply->positions);
    finding.knows_received = reply->tells_received;
  }
  if (reply && !reply->tells_received) {  // then its whole queue says whether it is busy
    auto asking_load = connection->call(wire::Verb::ping, wire::encode(wire::Ping{}), {}, deadline);
    const Result<wire::Frame> load = co_await std::move(asking_load);
    const auto pong = load ? wire::decode<wire::Pong>(load->header) : load.error();
    if (pong) finding.queued_rows = pong->queued_rows;
    if (!pong) error = pong.error();
  }
  --examination->pending;
  self->changed.set();
  if (self->closed || hop->lost) co_return;
  if (error.code != Errc::ok) {
    if (error.code == Errc::timeout) self->peers.disconnect(hop->address, error);
    self->lose(*hop, std::move(error));
    co_return;
  }
  examination->findings.push_back(finding);
}

}  // namespace farmesh::driver
