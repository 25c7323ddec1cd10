// Not beside engine_test.cpp: a process opens the engine once, and then keeps it.
#include <string>

#include <dlfcn.h>
#include <doctest/doctest.h>

#include "model/engine_loader.hpp"
#include "unit/model/engine_fixture.hpp"

namespace farmesh::model {
namespace {

class NoWeights final : public WeightSource {
 public:
  Result<TensorView> find(std::string_view name) const override {
    return {Errc::config_mismatch, std::string(name)};
  }
  void release(std::string_view) const override {}
};

Error load_failure(const std::string& library) {
  const test::WithEnvironment named("FARMESH_TORCH_LIBRARY", library);
  const auto engine = load_engine({}, NoWeights(), {});
  REQUIRE_FALSE(engine);
  return engine.error();
}

TEST_SUITE("model/loader") {
  TEST_CASE("a library that is absent or is something else is named, and may be found later") {
    const Error absent = load_failure("/nowhere/libfarmesh_torch.so");
    CHECK(absent.code == Errc::engine_unavailable);
    CHECK(absent.detail.find("/nowhere/libfarmesh_torch.so") != std::string::npos);
    CHECK(load_failure(FARMESH_SOURCE_DIR "/README.md").code == Errc::engine_unavailable);
    CHECK(load_failure("libm.so.6").code == Errc::engine_unavailable);  // no factory in it
  }

  TEST_CASE("a process that already holds a libtorch is told so") {
    void* other = ::dlopen("libc10.so", RTLD_NOW | RTLD_LOCAL);
    if (other == nullptr) {
      MESSAGE("skipped: there is no libc10.so on the loader's path");
      return;
    }
    const Error refused = load_failure("/nowhere/libfarmesh_torch.so");
    CHECK(refused.code == Errc::engine_unavailable);
    CHECK(refused.detail.find("already holds a libtorch") != std::string::npos);
    ::dlclose(other);
  }
}

}  // namespace
}  // namespace farmesh::model
