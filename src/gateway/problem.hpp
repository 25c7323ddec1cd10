// Why a request is refused or an answer ended, before it takes a face: OpenAI's error object or
// the platform's. One table says which HTTP status each Errc is (docs/http-api.md shows it).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <farmesh/errors.hpp>
#include <farmesh/result.hpp>

namespace farmesh::gateway {

struct Problem {
  int status = 500;       // HTTP
  std::string code;       // stable, for programs: "invalid_type", "context_length_exceeded", …
  std::string message;    // for people; holds no prompt, token, key or path
  std::string param;      // the field that is at fault, such as "messages[0].content"; may be empty
  int retry_after_s = 0;  // above 0: worth a Retry-After header
};

/// A request's own fault.
Problem invalid_request(std::string code, std::string message, std::string param = {});

/// What an Error of the library means to an HTTP client.
Problem problem_of(const Error& error);

/// OpenAI's `type` for this status: "invalid_request_error", "server_error", …
std::string_view openai_type(int status) noexcept;

/// {"error":{"message","type","param","code"}}
std::string openai_error(const Problem& problem);

/// {"error","code","request_id"}; no request_id when it is empty.
std::string platform_error(const Problem& problem, std::string_view request_id = {});

/// A checked value, or why there is none.
template <class T>
class [[nodiscard]] Checked {
 public:
  Checked(T value) : state_(std::in_place_index<0>, std::move(value)) {}            // NOLINT
  Checked(Problem problem) : state_(std::in_place_index<1>, std::move(problem)) {}  // NOLINT

  explicit operator bool() const noexcept { return state_.index() == 0; }
  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }
  const Problem& problem() const noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Problem> state_;
};

}  // namespace farmesh::gateway
