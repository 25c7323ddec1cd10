#include "discovery/torrent.hpp"

#include <algorithm>
#include <map>
#include <utility>

// Boost 1.74's Asio forgets <utility> under C++20; it is above.
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/torrent_flags.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>

#include "discovery/dht_settings.hpp"

namespace farmesh::discovery {
namespace {

constexpr std::chrono::milliseconds kPatience{5'000};  // with libtorrent's opening and closing
constexpr int kAnnounceSeconds = 60;
constexpr int kMaxPeers = 64;

lt::settings_pack torrent_settings(const DhtEngineOptions& options) {
  using Pack = lt::settings_pack;
  Pack settings = dht_settings(options);
  settings.set_int(Pack::alert_mask, lt::alert_category::status | lt::alert_category::error |
                                         lt::alert_category::storage |
                                         lt::alert_category::piece_progress);
  settings.set_bool(Pack::enable_incoming_tcp, true);
  settings.set_bool(Pack::enable_outgoing_tcp, true);
  settings.set_bool(Pack::enable_incoming_utp, true);
  settings.set_bool(Pack::enable_outgoing_utp, true);
  settings.set_bool(Pack::allow_multiple_connections_per_ip, options.local);
  settings.set_int(Pack::connections_limit, kMaxPeers);
  settings.set_int(Pack::dht_announce_interval, kAnnounceSeconds);
  return settings;
}

/// libtorrent spares peers of the own network its limits; here they hold for all.
void limit_uploads(lt::session& session, const UploadLimit& limit) {
  if (!limit.bytes_per_second) return;
  lt::ip_filter everybody;
  const auto limited = std::uint32_t{1}
                       << static_cast<std::uint32_t>(lt::session::global_peer_class_id);
  everybody.add_rule(lt::make_address("0.0.0.0"), lt::make_address("255.255.255.255"), limited);
  everybody.add_rule(lt::make_address("::"),
                     lt::make_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), limited);
  session.set_peer_class_filter(everybody);
  lt::settings_pack settings;
  if (*limit.bytes_per_second == 0) {
    settings.set_int(lt::settings_pack::unchoke_slots_limit, 0);
    settings.set_int(lt::settings_pack::num_optimistic_unchoke_slots, 0);
    settings.set_int(lt::settings_pack::allowed_fast_set_size, 0);
  } else {
    constexpr std::uint64_t kMost = 1'000'000'000;
    settings.set_int(lt::settings_pack::upload_rate_limit,
                     static_cast<int>(std::min(*limit.bytes_per_second, kMost)));
  }
  session.apply_settings(std::move(settings));
}

}  // namespace

struct Torrent::Impl {
  struct Place {
    int first = 0;  // the torrent's number of its first piece
    int count = 0;
  };

  explicit Impl(lt::session_params params) : session(std::move(params)) {}

  Result<std::shared_ptr<lt::torrent_info>> read(const TorrentFolder& folder);
  Result<std::vector<int>> numbers(const std::vector<TorrentRun>& runs) const;
  void listen(std::chrono::milliseconds patience);
  void listen_until(const bool& told);
  void note(int number);
  void close();

  lt::session session;
  lt::torrent_handle handle;
  std::uint16_t port = 0;
  std::map<std::string, Place> places;
  std::vector<TorrentRun> came;  // of one piece each, not yet taken
  bool checked = false;          // it takes part
  bool flushed = false;          // nothing of what was removed is on its way to a file
  std::string problem;
};

/// The torrent's description with every file at its place in the folder.
Result<std::shared_ptr<lt::torrent_info>> Torrent::Impl::read(const TorrentFolder& folder) {
  lt::error_code error;
  const lt::span<const char> bytes(folder.metadata.data(),
                                   static_cast<std::ptrdiff_t>(folder.metadata.size()));
  auto info = std::make_shared<lt::torrent_info>(bytes, error, lt::from_span);
  if (error || !info->is_valid() || !info->info_hashes().has_v2()) {
    return {Errc::model_malformed, "the manifest is no v2 torrent: " + error.message()};
  }
  places.clear();
  for (const lt::file_index_t file : info->files().file_range()) {
    const lt::file_storage& files = info->files();
    if (files.pad_file_at(file)) continue;
    const std::string name = files.file_name(file).to_string();
    Place place;
    if (files.file_size(file) > 0) {
      place.first = static_cast<int>(files.map_file(file, 0, 1).piece);
      place.count = files.file_num_pieces(file);
    }
    places[name] = place;
    info->rename_file(file, (folder.path / name).string());
  }
  return info;
}

Result<std::vector<int>> Torrent::Impl::numbers(const std::vector<TorrentRun>& runs) const {
  std::vector<int> all;
  for (const TorrentRun& run : runs) {
    const auto place = places.find(run.file);
    if (place == places.end() || run.end > static_cast<std::size_t>(place->second.count)) {
      return {Errc::model_malformed, "the torrent lacks pieces of " + run.file};
    }
    for (std::size_t piece = run.first; piece < run.end; ++piece) {
      all.push_back(place->second.first + static_cast<int>(piece));
    }
  }
  return all;
}

/// Takes in what libtorrent tells; waits so long for the first of it.
void Torrent::Impl::listen(std::chrono::milliseconds patience) {
  session.wait_for_alert(patience);
  std::vector<lt::alert*> alerts;
  session.pop_alerts(&alerts);
  for (const lt::alert* alert : alerts) {
    if (const auto* piece = lt::alert_cast<lt::piece_finished_alert>(alert)) {
      if (piece->handle == handle) note(static_cast<int>(piece->piece_index));
    } else if (const auto* ready = lt::alert_cast<lt::torrent_checked_alert>(alert)) {
      if (ready->handle == handle) checked = true;
    } else if (lt::alert_cast<lt::cache_flushed_alert>(alert) != nullptr) {
      flushed = true;
    } else if (const auto* failed = lt::alert_cast<lt::torrent_error_alert>(alert)) {
      problem = failed->message();
    } else if (const auto* unwritten = lt::alert_cast<lt::file_error_alert>(alert)) {
      problem = unwritten->message();
    }
  }
}

void Torrent::Impl::note(int number) {
  for (const auto& [file, place] : places) {
    if (number < place.first || number >= place.first + place.count) continue;
    const auto index = static_cast<std::size_t>(number - place.first);
    came.push_back({file, index, index + 1});
  }
}

void Torrent::Impl::listen_until(const bool& told) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!told && problem.empty() && std::chrono::steady_clock::now() < deadline) {
    listen(std::chrono::milliseconds(100));
  }
}

void Torrent::Impl::close() {
  if (!handle.is_valid()) return;
  flushed = false;
  session.remove_torrent(handle);
  listen_until(flushed);
  handle = {};
  came.clear();
}

Torrent::Torrent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Torrent::~Torrent() = default;

Result<std::unique_ptr<Torrent>> Torrent::start(const DhtEngineOptions& options,
                                                const UploadLimit& limit) {
  auto impl = std::make_unique<Impl>(lt::session_params(torrent_settings(options), {}));
  const auto port = await_port(impl->session, lt::socket_type_t::tcp);
  if (!port) return Error{port.error().code, "torrents cannot listen: " + port.error().detail};
  impl->port = *port;
  limit_uploads(impl->session, limit);
  for (const auto& node : hosts_of(options.bootstrap)) impl->session.add_dht_node(node);
  return std::unique_ptr<Torrent>(new Torrent(std::move(impl)));
}

std::uint16_t Torrent::port() const noexcept { return impl_->port; }

Result<void> Torrent::open(const TorrentFolder& folder) {
  impl_->close();
  impl_->problem.clear();
  impl_->checked = false;
  auto info = impl_->read(folder);
  if (!info) return info.error();
  const auto have = impl_->numbers(folder.have);
  const auto wanted = impl_->numbers(folder.wanted);
  if (!have || !wanted) return have ? wanted.error() : have.error();

  lt::add_torrent_params params;
  params.ti = *info;
  params.save_path = folder.path.string();
  const int count = (*info)->num_pieces();
  params.have_pieces.resize(count, false);
  for (const int piece : *have) params.have_pieces.set_bit(lt::piece_index_t(piece));
  params.piece_priorities.resize(static_cast<std::size_t>(count), lt::dont_download);
  for (const int piece : *wanted) {
    params.piece_priorities[static_cast<std::size_t>(piece)] = lt::default_priority;
  }
  // Marks were set when the pieces were on the disk: nothing is read again.
  params.flags = lt::torrent_flags::no_verify_files | lt::torrent_flags::disable_lsd;
  if (wanted->empty()) params.flags |= lt::torrent_flags::upload_mode;
  lt::error_code error;
  impl_->handle = impl_->session.add_torrent(std::move(params), error);
  if (error) return {Errc::io_error, "the torrent: " + error.message()};
  // Before that nobody is told of it.
  impl_->listen_until(impl_->checked);
  announce();
  return {};
}

std::vector<TorrentRun> Torrent::take(std::chrono::milliseconds patience) {
  if (impl_->came.empty()) impl_->listen(patience);
  return std::exchange(impl_->came, {});
}

void Torrent::announce() {
  if (impl_->handle.is_valid()) impl_->handle.force_dht_announce();
}

TorrentStatus Torrent::status() const {
  TorrentStatus status;
  status.problem = impl_->problem;
  if (!impl_->handle.is_valid()) return status;
  const lt::torrent_status now = impl_->handle.status({});
  status.peers = now.num_peers;
  status.sent_bytes = static_cast<std::uint64_t>(now.total_payload_upload);
  status.received_bytes = static_cast<std::uint64_t>(now.total_payload_download);
  return status;
}

}  // namespace farmesh::discovery
