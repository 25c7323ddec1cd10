// Result<T>: a value or an Error, for everything that something outside the process can spoil.
//
// Shaped like std::expected (C++23), which GCC 12 offers in C++23 mode only. Misuse by the
// programmer is an assertion, never a Result.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include <farmesh/errors.hpp>
#include <farmesh/export.hpp>

namespace farmesh::inline FARMESH_ABI {

struct Error {
  Errc code = Errc::ok;
  std::string detail;  // for people; holds no prompt text, token or secret

  /// "no_route: layers 4 to 7 have no peer"
  std::string to_string() const {
    return detail.empty() ? std::string(name(code)) : std::string(name(code)) + ": " + detail;
  }
};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit
  Result(Errc code, std::string detail = {}) : Result(Error{code, std::move(detail)}) {}

  explicit operator bool() const noexcept { return state_.index() == 0; }
  bool has_value() const noexcept { return state_.index() == 0; }

  /// Access without a value, or to the error of a success, is undefined, as in std::expected.
  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }

  const Error& error() const& noexcept { return *std::get_if<1>(&state_); }
  Error&& error() && noexcept { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit
  Result(Errc code, std::string detail = {}) : Result(Error{code, std::move(detail)}) {}

  explicit operator bool() const noexcept { return ok_; }
  bool has_value() const noexcept { return ok_; }
  const Error& error() const noexcept { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

}  // namespace farmesh::inline FARMESH_ABI
