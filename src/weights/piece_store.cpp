#include "weights/piece_store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.hpp"
#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/mapped_file.hpp"

namespace farmesh::weights {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxStateBytes = 64 << 20;
constexpr std::uint64_t kMaxFileBytes = 1ull << 48;
constexpr std::uint64_t kMaxPieces = 1ull << 26;
constexpr int kVersion = 1;

Error system_error(const std::string& what) {
  const int code = errno;
  const Errc kind = code == ENOSPC || code == EDQUOT ? Errc::disk_full : Errc::io_error;
  return {kind, what + ": " + std::strerror(code)};
}

std::size_t pieces_of(std::uint64_t length, std::uint64_t piece_bytes) {
  return (length + piece_bytes - 1) / piece_bytes;
}

std::string hex_of(const std::vector<bool>& marks) {
  std::vector<std::uint8_t> bytes((marks.size() + 7) / 8);
  for (std::size_t i = 0; i < marks.size(); ++i) {
    if (marks[i]) bytes[i / 8] |= static_cast<std::uint8_t>(1u << (i % 8));
  }
  return to_hex(bytes);
}

std::optional<std::vector<bool>> marks_of(const std::string& hex, std::size_t count) {
  std::vector<std::uint8_t> bytes((count + 7) / 8);
  if (!from_hex(hex, bytes)) return std::nullopt;
  std::vector<bool> marks(count);
  for (std::size_t i = 0; i < count; ++i) marks[i] = (bytes[i / 8] >> (i % 8) & 1) != 0;
  return marks;
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

Result<void> write_at(int descriptor, std::uint64_t offset, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return system_error("writing weights");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

Result<void> write_whole(const fs::path& path, std::string_view bytes) {
  fs::path draft = path;
  draft += ".new";
  {
    const Descriptor file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0) return system_error(path.filename().string());
    const Result<void> written = write_at(file.get(), 0, as_view(bytes));
    if (!written) return written;
    if (::fdatasync(file.get()) != 0) return system_error(path.filename().string());
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return system_error(path.filename().string());
  return {};
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(value_, other.value_);
  return *this;
}

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

std::string encode_state(const StoreState& state) {
  json files = json::object();
  for (const auto& [name, file] : state.files) {
    files[name] = {{"length", file.length}, {"etag", file.etag}, {"have", hex_of(file.have)}};
  }
  const json whole = {
      {"version", kVersion}, {"piece_bytes", state.piece_bytes}, {"files", std::move(files)}};
  return whole.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<StoreState> parse_state(std::string_view text) {
  const json whole = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!whole.is_object() || whole.value("version", json()) != kVersion) return std::nullopt;
  const json pieces = whole.value("piece_bytes", json());
  const json files = whole.value("files", json());
  if (!pieces.is_number_unsigned() || !files.is_object()) return std::nullopt;
  StoreState state;
  state.piece_bytes = pieces.get<std::uint64_t>();
  if (state.piece_bytes == 0 || state.piece_bytes > kMaxFileBytes) return std::nullopt;
  for (const auto& [name, file] : files.items()) {
    if (!is_file_name(name) || !file.is_object()) return std::nullopt;
    const json length = file.value("length", json());
    const json etag = file.value("etag", json());
    const json have = file.value("have", json());
    if (!length.is_number_unsigned() || !etag.is_string() || !have.is_string()) return std::nullopt;
    FileState one;
    one.length = length.get<std::uint64_t>();
    one.etag = etag.get<std::string>();
    if (one.length > kMaxFileBytes) return std::nullopt;
    const std::size_t count = pieces_of(one.length, state.piece_bytes);
    if (count > kMaxPieces) return std::nullopt;
    auto marks = marks_of(have.get_ref<const std::string&>(), count);
    if (!marks) return std::nullopt;
    one.have = *std::move(marks);
    state.files.emplace(name, std::move(one));
  }
  return state;
}

PieceStore::PieceStore(fs::path folder, std::uint64_t piece_bytes) : folder_(std::move(folder)) {
  state_.piece_bytes = piece_bytes;
}

Result<std::unique_ptr<PieceStore>> PieceStore::open(fs::path folder, std::uint64_t piece_bytes) {
  std::error_code failed;
  fs::create_directories(folder / ".farmesh", failed);
  if (failed) return Error{Errc::io_error, "the cache folder: " + failed.message()};
  std::unique_ptr<PieceStore> store(new PieceStore(std::move(folder), piece_bytes));
  store->load();
  return store;
}

/// Marks count for files that are there in their length; what cannot be read begins anew.
void PieceStore::load() {
  const Result<std::string> text = read_text_file(folder_ / ".farmesh" / "state", kMaxStateBytes);
  std::optional<StoreState> stored = text ? parse_state(*text) : std::nullopt;
  if (!stored || stored->piece_bytes != state_.piece_bytes) {
    state_.files.clear();
    return;
  }
  std::erase_if(stored->files, [&](const auto& each) {
    std::error_code failed;
    return fs::file_size(folder_ / each.first, failed) != each.second.length || failed;
  });
  state_ = *std::move(stored);
}

Result<PieceStore::Lock> PieceStore::lock() {
  const fs::path path = folder_ / ".farmesh" / "lock";
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) return system_error("the cache folder's lock");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    log(LogLevel::info, "weights", "waiting for another process that downloads this model");
    while (::flock(file.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return system_error("the cache folder's lock");
    }
  }
  const std::lock_guard guard(mutex_);
  load();
  return Lock(std::move(file));
}

const FileState* PieceStore::find(const std::string& file) const {
  const std::lock_guard guard(mutex_);
  const auto at = state_.files.find(file);
  return at == state_.files.end() ? nullptr : &at->second;
}

bool PieceStore::has(const std::string& file, std::size_t piece) const {
  const std::lock_guard guard(mutex_);
  const auto at = state_.files.find(file);
  return at != state_.files.end() && piece < at->second.have.size() && at->second.have[piece];
}

bool PieceStore::is_whole(const std::string& file) const {
  const std::lock_guard guard(mutex_);
  const auto at = state_.files.find(file);
  return at != state_.files.end() &&
         std::all_of(at->second.have.begin(), at->second.have.end(), [](bool one) { return one; });
}

std::size_t PieceStore::piece_count(const std::string& file) const {
  const FileState* const known = find(file);
  return known == nullptr ? 0 : known->have.size();
}

std::uint64_t PieceStore::bytes_of(const std::string& file, std::size_t piece) const {
  const FileState* const known = find(file);
  const std::uint64_t begin = piece * state_.piece_bytes;
  if (known == nullptr || begin >= known->length) return 0;
  return std::min(state_.piece_bytes, known->length - begin);
}

Result<void> PieceStore::begin(const std::string& file, std::uint64_t length,
                               const std::string& etag) {
  if (!is_file_name(file) || length > kMaxFileBytes ||
      pieces_of(length, state_.piece_bytes) > kMaxPieces) {
    return {Errc::model_malformed, "a file of " + std::to_string(length) + " bytes is too long"};
  }
  const std::lock_guard guard(mutex_);
  const auto known = state_.files.find(file);
  if (known != state_.files.end()) {
    FileState& state = known->second;
    const bool other_etag = !state.etag.empty() && !etag.empty() && state.etag != etag;
    if (state.length != length || other_etag) {
      return {Errc::hub_changed,
              file + " is another file now than the one that was begun: remove " +
                  folder_.filename().string() + " in the cache folder, or name a commit"};
    }
    if (state.etag.empty()) state.etag = etag;
    return {};
  }
  const fs::path path = folder_ / file;
  const Descriptor made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  // Not emptied first: another process may have it mapped.
  if (made.get() < 0 || ::ftruncate(made.get(), static_cast<off_t>(length)) != 0) {
    return system_error(file);
  }
  state_.files[file] = {length, etag, std::vector<bool>(pieces_of(length, state_.piece_bytes))};
  return {};
}

Result<void> PieceStore::put(const std::string& file, std::string_view bytes,
                             const std::string& etag) {
  if (const Result<void> written = write_whole(folder_ / file, bytes); !written) return written;
  const std::lock_guard guard(mutex_);
  state_.files[file] = {bytes.size(), etag,
                        std::vector<bool>(pieces_of(bytes.size(), state_.piece_bytes), true)};
  return {};
}

Result<int> PieceStore::descriptor_of(const std::string& file) {
  const std::lock_guard guard(mutex_);
  const auto known = open_.find(file);
  if (known != open_.end()) return known->second.get();
  Descriptor made(::open((folder_ / file).c_str(), O_RDWR | O_CLOEXEC));
  if (made.get() < 0) return system_error(file);
  return open_.emplace(file, std::move(made)).first->second.get();
}

Result<void> PieceStore::write(const std::string& file, std::size_t piece, ByteView bytes) {
  FARMESH_ASSERT(!bytes.empty() && bytes.size() == bytes_of(file, piece));
  const Result<int> descriptor = descriptor_of(file);
  if (!descriptor) return descriptor.error();
  const Result<void> written = write_at(*descriptor, piece * state_.piece_bytes, bytes);
  return written ? adopt(file, piece) : written;
}

Result<void> PieceStore::adopt(const std::string& file, std::size_t piece) {
  FARMESH_ASSERT(piece < piece_count(file));
  const Result<int> descriptor = descriptor_of(file);  // save() brings its bytes to the disk
  if (!descriptor) return descriptor.error();
  const std::lock_guard guard(mutex_);
  state_.files[file].have[piece] = true;
  return {};
}

Result<std::string> PieceStore::read(const std::string& file, std::uint64_t begin,
                                     std::uint64_t end) const {
  std::ifstream in(folder_ / file, std::ios::binary);
  std::string bytes(end - begin, '\0');
  in.seekg(static_cast<std::streamoff>(begin));
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    return Error{Errc::io_error, file + " cannot be read"};
  }
  return bytes;
}

Result<void> PieceStore::save() {
  std::string text;
  std::map<std::string, Descriptor> written;
  {
    const std::lock_guard guard(mutex_);
    text = encode_state(state_);
    for (const auto& [file, descriptor] : open_) {
      Descriptor copy(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 0));
      if (copy.get() >= 0) written.emplace(file, std::move(copy));
    }
  }
  for (const auto& [file, descriptor] : written) {
    if (::fdatasync(descriptor.get()) != 0) return system_error(file);
  }
  return write_whole(folder_ / ".farmesh" / "state", text);
}

std::uint64_t PieceStore::free_bytes() const {
  struct statvfs system {};
  if (::statvfs(folder_.c_str(), &system) != 0) return UINT64_MAX;
  return std::uint64_t{system.f_bavail} * system.f_frsize;
}

}  // namespace farmesh::weights
