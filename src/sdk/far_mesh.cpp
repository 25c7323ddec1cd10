// The public FarMesh and MeshStream: handles that forked children leave alone.
#include <system_error>
#include <thread>
#include <utility>

#include <farmesh/far_mesh.hpp>

#include "base/thread.hpp"
#include "sdk/backend.hpp"

namespace farmesh {

struct MeshStream::Impl {
  const client::ProcessGuard guard;
  std::shared_ptr<sdk::StreamState> state = std::make_shared<sdk::StreamState>();
  std::shared_ptr<sdk::Turn> turn;  // null: it failed before it began
  std::thread thread;

  ~Impl() {
    if (!thread.joinable()) return;
    state->close();
    turn->cancel();
    // A wake function may let the stream go: then the thread ends by itself, with what it holds.
    thread.get_id() == std::this_thread::get_id() ? thread.detach() : thread.join();
  }

  bool usable() const {
    // Its locks may be held for ever in a forked child.
    return !guard.forked();
  }
  MeshError unusable() const { return mesh_error(guard.check().error()); }
};

MeshStream::MeshStream(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
MeshStream::MeshStream(MeshStream&&) noexcept = default;
MeshStream& MeshStream::operator=(MeshStream&& other) noexcept {
  if (this != &other) {
    MeshStream old(std::exchange(impl_, std::move(other.impl_)));
  }
  return *this;
}

MeshStream::~MeshStream() {
  // In a forked child the thread is missing: its object is left to the process's end.
  if (impl_ && !impl_->usable()) static_cast<void>(impl_.release());
}

MeshResult<std::optional<std::string>> MeshStream::next() {
  if (!impl_->usable()) return impl_->unusable();
  return impl_->state->next();
}

bool MeshStream::wait(std::chrono::milliseconds at_most) const {
  return !impl_->usable() || impl_->state->wait(at_most);
}

void MeshStream::on_ready(std::function<void()> wake) {
  if (!impl_->usable()) return wake();
  impl_->state->on_ready(std::move(wake));
}

MeshResult<std::string> MeshStream::text() {
  for (;;) {
    MeshResult<std::optional<std::string>> piece = next();
    if (!piece) return piece.error();
    if (!*piece) return impl_->state->text_so_far();
  }
}

void MeshStream::close() {
  if (!impl_->usable()) return;
  if (impl_->state->close() && impl_->turn) impl_->turn->cancel();
}

MeshUsage MeshStream::usage() const {
  return impl_->usable() ? impl_->state->usage() : MeshUsage{};
}

std::string MeshStream::request_id() const {
  return impl_->usable() ? impl_->state->request_id() : std::string();
}

std::optional<MeshError> MeshStream::error() const {
  if (!impl_->usable()) return impl_->unusable();
  return impl_->state->error();
}

namespace {

MeshStream stream_of(sdk::Backend& backend, sdk::Ask ask) {
  auto impl = std::make_unique<MeshStream::Impl>();
  if (const Result<void> usable = backend.guard.check(); !usable) {
    impl->state->fail(mesh_error(usable.error()));
    return MeshStream(std::move(impl));
  }
  MeshResult<std::shared_ptr<sdk::Turn>> turn = backend.start(std::move(ask));
  if (!turn) {
    impl->state->fail(turn.error());
    return MeshStream(std::move(impl));
  }
  impl->turn = *std::move(turn);
  try {
    impl->thread =
        start_thread("sdk stream", [turn = impl->turn, state = impl->state] { turn->run(*state); });
  } catch (const std::system_error&) {
    impl->state->fail(mesh_error({Errc::out_of_memory, "The system gives no more threads."}));
  }
  return MeshStream(std::move(impl));
}

}  // namespace

FarMesh::FarMesh(std::shared_ptr<sdk::Backend> backend) noexcept : backend_(std::move(backend)) {}
FarMesh::FarMesh(FarMesh&&) noexcept = default;
FarMesh& FarMesh::operator=(FarMesh&&) noexcept = default;
FarMesh::~FarMesh() {
  // A forked child leaves it to the process's end.
  if (backend_ && backend_->guard.forked()) new std::shared_ptr<sdk::Backend>(std::move(backend_));
}

MeshResult<FarMesh> FarMesh::connect(ConnectOptions options) {
  auto backend = sdk::make_coordinator_backend(std::move(options));
  if (!backend) return backend.error();
  return FarMesh(*std::move(backend));
}

MeshResult<FarMesh> FarMesh::open(ModelOptions options) {
  auto backend = sdk::make_direct_backend(std::move(options));
  if (!backend) return backend.error();
  return FarMesh(*std::move(backend));
}

MeshStream FarMesh::chat(std::string_view message, const AskOptions& options) const {
  return chat(std::vector<ChatMessage>{{"user", std::string(message)}}, options);
}

MeshStream FarMesh::chat(const std::vector<ChatMessage>& messages,
                         const AskOptions& options) const {
  return stream_of(*backend_, {messages, options});
}

MeshStream FarMesh::generate(std::string_view prompt, const AskOptions& options) const {
  return stream_of(*backend_, {std::string(prompt), options});
}

MeshResult<std::vector<MeshModel>> FarMesh::models() const {
  if (const auto usable = backend_->guard.check(); !usable) return mesh_error(usable.error());
  return backend_->models();
}

MeshResult<MeshStatus> FarMesh::status(const std::string& model) const {
  if (const auto usable = backend_->guard.check(); !usable) return mesh_error(usable.error());
  return backend_->status(model);
}

MeshResult<MeshEarnings> FarMesh::earnings(const std::string& wallet) const {
  if (const auto usable = backend_->guard.check(); !usable) return mesh_error(usable.error());
  return backend_->earnings(wallet);
}

}  // namespace farmesh
