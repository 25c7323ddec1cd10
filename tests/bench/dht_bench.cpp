// A swarm of DHT nodes in one process, on loopback: how fast it answers, how soon it forgets the
// dead, what it costs.
//
//   bench_dht [NODES [REFRESH_SECONDS [LOOKUPS]]]
//
// Each node announces itself, and renews a signed item twice a refresh period, as a Far Node does;
// a record lives for two periods. An observer keeps a view of all of them by their keys. Then a
// fifth is killed at once. Prints one row a figure; exits with 1 when a bound is missed.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "discovery/dht_engine.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::discovery;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kPatience{2};
constexpr double kLookupBoundMs = 500;
constexpr std::size_t kValueBytes = 400;  // about a record
// More lookups at once than this overflow a socket's buffer with their answers.
constexpr std::size_t kObserverBurst = 5;
constexpr std::chrono::milliseconds kObserverPause{20};

double seconds_since(Clock::time_point start) { return Seconds(Clock::now() - start).count(); }

struct Node {
  identity::NodeKey key = identity::NodeKey::generate();
  std::unique_ptr<DhtEngine> dht;
  std::uint16_t served_port = 0;
  Clock::time_point next_renewal;
  std::int64_t sequence = 0;
  bool alive = true;
  bool stored = false;  // its item, somewhere
};

/// Wakes the one thread that drives all nodes.
class Bell {
 public:
  void ring() {
    {
      const std::lock_guard lock(mutex_);
      rung_ = true;
    }
    changed_.notify_one();
  }
  void wait_until(Clock::time_point when) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, when, [this] { return rung_; });
    rung_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

class Swarm {
 public:
  Swarm(std::size_t count, Seconds refresh)
      : refresh_(refresh), key_(rendezvous_key("bench", ModelHash{}, 0)) {
    nodes_.resize(count);
    for (std::size_t i = 0; i < count; ++i) start(i);
    observer_ = start_engine();
  }

  /// Lets the swarm live for `time`.
  void run(Seconds time) {
    const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(time);
    while (Clock::now() < until) turn();
  }

  /// Milliseconds until the first answer that holds the item, or somebody who announced himself.
  void measure(std::size_t lookups, std::vector<double>& items, std::vector<double>& peers) {
    for (std::size_t i = 0; i < lookups; ++i) {
      items.push_back(time_of([&] { observer_->get(random_stored().key.public_key()); },
                              [this] { return item_found_; }));
      peers.push_back(time_of([&] { observer_->find(key_); }, [this] { return peers_found_; }));
    }
  }

  void measure_puts(std::size_t count, std::vector<double>& puts) {
    const identity::NodeKey key = identity::NodeKey::generate();
    for (std::size_t i = 0; i < count; ++i) {
      const DhtItem item = make_item(key, static_cast<std::int64_t>(i + 1), value());
      puts.push_back(time_of([&] { observer_->put(item); }, [this] { return stored_; }));
    }
  }

  /// The observer begins to watch every node.
  void watch() { watching_ = true; }

  void kill(double share) {
    std::vector<std::size_t> order(nodes_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random_);
    order.resize(static_cast<std::size_t>(share * static_cast<double>(order.size())));
    std::vector<std::thread> closing;
    for (const std::size_t i : order) {
      nodes_[i].alive = false;
      by_key_.erase(nodes_[i].key.public_key());
      closing.emplace_back([dht = std::move(nodes_[i].dht)]() mutable { dht.reset(); });
    }
    for (std::thread& one : closing) one.join();
  }

  /// One node after another ends and another begins, `count` of them over `time`.
  void churn(std::size_t count, Seconds time) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = random_() % nodes_.size();
      by_key_.erase(nodes_[at].key.public_key());
      nodes_[at] = Node();
      start(at);
      run(time / static_cast<double>(count));
    }
  }

  struct View {
    std::size_t right = 0;    // living and seen
    std::size_t missing = 0;  // living and not seen
    std::size_t ghosts = 0;   // dead and still believed
  };
  View view() const {
    View view;
    for (const Node& node : nodes_) {
      const auto seen = seen_.find(node.key.public_key());
      const bool believed = seen != seen_.end() && Clock::now() < seen->second.until;
      if (node.alive && believed) ++view.right;
      if (node.alive && !believed) ++view.missing;
      if (!node.alive && believed) ++view.ghosts;
    }
    return view;
  }

  struct Cost {
    double bytes = 0;  // both ways, a node
    double packets = 0;
    double dropped = 0;
  };
  Cost cost() {
    for (Node& node : nodes_) {
      if (node.alive) static_cast<void>(node.dht->traffic());
    }
    run(Seconds(1));
    Cost cost;
    double living = 0;
    for (Node& node : nodes_) {
      if (!node.alive) continue;
      const DhtTraffic traffic = node.dht->traffic();
      cost.bytes += static_cast<double>(traffic.bytes_in + traffic.bytes_out);
      cost.packets += static_cast<double>(traffic.packets_in + traffic.packets_out);
      cost.dropped += static_cast<double>(traffic.dropped);
      ++living;
    }
    return {cost.bytes / living, cost.packets / living, cost.dropped / living};
  }

  DhtTraffic observer_cost() {
    static_cast<void>(observer_->traffic());
    run(Seconds(1));
    return observer_->traffic();
  }

 private:
  struct Seen {
    Clock::time_point until;  // its record expires
    Clock::time_point asked;
  };

  static std::string value() { return std::string(kValueBytes, 'r'); }

  std::unique_ptr<DhtEngine> start_engine() {
    DhtEngineOptions options;
    options.listen = {"127.0.0.1:0"};
    options.local = true;
    // One of them may be dead by now.
    for (const std::uint16_t port : entrances_) {
      options.bootstrap.push_back("127.0.0.1:" + std::to_string(port));
    }
    auto engine = DhtEngine::start(options);
    if (!engine) {
      std::fprintf(stderr, "dht bench: %s\n", engine.error().to_string().c_str());
      std::exit(1);
    }
    (*engine)->set_wake([this] { bell_.ring(); });
    if (entrances_.size() < 3) entrances_.push_back((*engine)->port());
    return *std::move(engine);
  }

  void start(std::size_t i) {
    Node& node = nodes_[i];
    node.dht = start_engine();
    node.served_port = static_cast<std::uint16_t>(1'024 + i);
    node.sequence = 1;
    by_key_[node.key.public_key()] = i;
    // Spread over a period, as in life.
    const double phase = static_cast<double>(random_() % 1'000) / 1'000;
    node.next_renewal = Clock::now() + std::chrono::milliseconds(500) +
                        std::chrono::duration_cast<Clock::duration>(refresh_ / 2 * phase);
  }

  void turn() {
    auto next = Clock::now() + std::chrono::milliseconds(20);
    for (Node& node : nodes_) {
      if (!node.alive) continue;
      if (node.next_renewal <= Clock::now()) renew(node);
      next = std::min(next, node.next_renewal);
    }
    if (watching_) look_around();
    bell_.wait_until(next);
    drain();
  }

  void renew(Node& node) {
    if (node.sequence % 8 == 1) node.dht->announce(key_, node.served_port);
    // The value says when it was signed; here the sequence tells the observer.
    node.dht->put(make_item(node.key, ++node.sequence, value()));
    node.next_renewal += std::chrono::duration_cast<Clock::duration>(refresh_ / 2);
    signed_at_[{node.key.public_key(), node.sequence}] = Clock::now();
  }

  /// Each node whose record is older than half a period is looked up, a few at a time.
  void look_around() {
    const auto now = Clock::now();
    if (now < next_burst_) return;
    next_burst_ = now + kObserverPause;
    const auto half = std::chrono::duration_cast<Clock::duration>(refresh_ / 2);
    std::size_t asked = 0;
    for (const Node& node : nodes_) {
      Seen& seen = seen_[node.key.public_key()];
      const auto age = seen.until - 3 * half;  // a record lives for four halves
      if (now < age || now - seen.asked < half) continue;
      seen.asked = now;
      observer_->get(node.key.public_key());
      if (++asked == kObserverBurst) return;
    }
  }

  void drain() {
    for (DhtAnswer& answer : observer_->take()) {
      if (std::get_if<PeersFound>(&answer) != nullptr) peers_found_ = true;
      if (std::get_if<ItemStored>(&answer) != nullptr) stored_ = true;
      if (const auto* found = std::get_if<ItemFound>(&answer)) {
        if (found->item.sequence > 0) item_found_ = true;
        saw(found->item);
      }
    }
    for (Node& node : nodes_) {
      if (!node.alive) continue;
      for (const DhtAnswer& answer : node.dht->take()) {
        const auto* stored = std::get_if<ItemStored>(&answer);
        if (stored != nullptr && stored->copies > 0) node.stored = true;
      }
    }
  }

  void saw(const DhtItem& item) {
    const auto signed_at = signed_at_.find({item.key, item.sequence});
    if (signed_at == signed_at_.end()) return;
    const auto life = std::chrono::duration_cast<Clock::duration>(refresh_ * 2);
    Seen& seen = seen_[item.key];
    seen.until = std::max(seen.until, signed_at->second + life);
  }

  template <class Ask, class Done>
  double time_of(const Ask& ask, const Done& done) {
    drain();
    item_found_ = peers_found_ = stored_ = false;
    const auto start = Clock::now();
    ask();
    while (!done() && seconds_since(start) < kPatience.count()) turn();
    return seconds_since(start) * 1'000;
  }

  const Node& random_stored() {
    for (;;) {
      const Node& node = nodes_[random_() % nodes_.size()];
      if (node.alive && node.stored) return node;
    }
  }

  const Seconds refresh_;
  const RendezvousKey key_;
  std::mt19937 random_{7};
  Bell bell_;
  std::vector<std::uint16_t> entrances_;
  std::vector<Node> nodes_;
  std::unique_ptr<DhtEngine> observer_;
  std::map<identity::PublicKey, std::size_t> by_key_;
  std::map<std::pair<identity::PublicKey, std::int64_t>, Clock::time_point> signed_at_;
  std::map<identity::PublicKey, Seen> seen_;
  Clock::time_point next_burst_{};
  bool watching_ = false;
  bool item_found_ = false;
  bool peers_found_ = false;
  bool stored_ = false;
};

double quantile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1))];
}

bool row(const char* what, const std::vector<double>& samples, double bound_ms) {
  const double p99 = quantile(samples, 0.99);
  std::printf("%-34s %8.1f ms p50 %8.1f ms p99\n", what, quantile(samples, 0.5), p99);
  std::fflush(stdout);
  return bound_ms == 0 || p99 < bound_ms;
}

bool lookups(Swarm& swarm, const char* when, std::size_t count, double bound_ms) {
  std::vector<double> items;
  std::vector<double> peers;
  swarm.measure(count, items, peers);
  std::printf("%s\n", when);
  const bool items_held = row("  signed item, first answer", items, bound_ms);
  return row("  announced peers, first answer", peers, bound_ms) && items_held;
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t nodes = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 200;
  const Seconds refresh(argc > 2 ? std::strtod(argv[2], nullptr) : 10);
  const std::size_t count = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 200;

  const auto begun = Clock::now();
  Swarm swarm(nodes, refresh);
  std::printf("%zu nodes up in %.1f s; refresh period %.0f s\n", nodes, seconds_since(begun),
              refresh.count());
  swarm.run(refresh);

  bool held = lookups(swarm, "calm", count, kLookupBoundMs);
  std::vector<double> puts;
  swarm.measure_puts(count / 4 + 1, puts);
  row("  put of an item", puts, 0);

  const Swarm::Cost before = swarm.cost();
  const auto measured = Clock::now();
  swarm.run(refresh);
  const Swarm::Cost after = swarm.cost();
  const double minutes = seconds_since(measured) / 60;
  std::printf("traffic of a node, both ways: %.0f KB and %.0f packets a minute, %.1f dropped\n",
              (after.bytes - before.bytes) / 1'000 / minutes,
              (after.packets - before.packets) / minutes, after.dropped - before.dropped);

  swarm.churn(nodes / 20, refresh);
  held = lookups(swarm, "one in twenty replaced over one period", count, kLookupBoundMs) && held;

  swarm.watch();
  swarm.run(refresh * 2);
  Swarm::View view = swarm.view();
  std::printf("observer's view: %zu right, %zu missing, %zu ghosts\n", view.right, view.missing,
              view.ghosts);
  swarm.kill(0.2);
  const auto killed = Clock::now();
  std::printf("a fifth killed\n");
  double ghosts_gone = 0;
  while (seconds_since(killed) < refresh.count() * 3) {
    swarm.run(refresh / 100);
    view = swarm.view();
    if (view.ghosts == 0 && ghosts_gone == 0) {
      ghosts_gone = seconds_since(killed) / refresh.count();
      std::printf("the dead are out of the view after %.2f refresh periods\n", ghosts_gone);
    }
    if (view.ghosts == 0 && view.missing == 0) break;
  }
  const double periods = seconds_since(killed) / refresh.count();
  std::printf("view right again after %.2f refresh periods (%zu missing, %zu ghosts)\n", periods,
              view.missing, view.ghosts);
  held = periods <= 2.01 && view.ghosts == 0 && view.missing == 0 && held;
  held = lookups(swarm, "a fifth dead", count / 4 + 1, kLookupBoundMs) && held;
  return held ? 0 : 1;
}
