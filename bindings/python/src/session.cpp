// Session and TokenStream: a conversation with a model, token by token, with the C++ names.
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "binding.hpp"

namespace farlabs {
namespace {

using namespace farmesh;

using Held = std::shared_ptr<Session>;
using Tokens = std::shared_ptr<TokenStream>;

/// A name of the package's Python half. Never destroyed: the interpreter's end may come before.
const py::object& ours(const char* module, const char* name) {
  return *new py::object(py::module_::import(module).attr(name));
}

py::object next(const Tokens& tokens) {
  static const py::object& kind = ours("farlabs._types", "Token");
  const std::optional<Token> token = next_of(*tokens);
  if (!token) return py::none();
  py::list top;
  for (const TokenLogprob& each : token->top) top.append(py::make_tuple(each.id, each.logprob));
  return kind(token->id, token->text, token->logprob, top);
}

py::dict usage_of(const Tokens& tokens) {
  using namespace py::literals;
  const Usage usage = tokens->usage();
  return py::dict("prompt_tokens"_a = usage.prompt_tokens, "tokens"_a = usage.tokens,
                  "ttft_ms"_a = usage.ttft_ms, "tokens_per_second"_a = usage.tokens_per_second,
                  "finish_reason"_a = std::string(name(usage.finish)),
                  "recoveries"_a = usage.recoveries, "numerics_changed"_a = usage.numerics_changed,
                  "hops"_a = hops_of(usage.hops));
}

/// As of a question to a FarMesh, but for the model and the cost; and what a Session alone has.
GenerateOptions generate_options(const py::kwargs& given) {
  py::dict rest(given);
  GenerateOptions options;
  const auto take = [&rest](const char* key, std::uint32_t& field) {
    const py::object value = rest.attr("pop")(key, py::none());
    if (!value.is_none()) read_option(key, value, field);
  };
  std::uint32_t top_logprobs = 0;
  take("top_logprobs", top_logprobs);
  take("max_draft", options.max_draft);
  for (const char* foreign : {"model", "max_cost_far"}) {
    if (rest.contains(foreign)) throw py::type_error(std::string(foreign) + " is a FarMesh's");
  }
  static const py::object& translate = ours("farlabs._mesh", "native_options");
  const AskOptions ask = options_of(translate(rest));
  options.max_tokens = ask.max_tokens;
  options.sampling = ask.sampling;
  options.sampling.top_logprobs = top_logprobs;
  options.sampling.seed = ask.seed ? *ask.seed : std::random_device{}();
  options.stop = ask.stop;
  options.ignore_eos = ask.ignore_eos;
  return options;
}

/// The stream that `start` gives, begun without the interpreter, as farlabs._mesh wraps it.
template <class Start>
py::object begun(Start start) {
  static const py::object& kind = ours("farlabs._mesh", "TokenStream");
  const Tokens tokens = [&] {
    const py::gil_scoped_release release;
    return shared(start());
  }();
  return kind(tokens);
}

py::object generate(const Held& session, const std::string& prompt, const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  return begun([&] { return session->generate(prompt, options); });
}

py::object generate_ids(const Held& session, const std::vector<TokenId>& prompt,
                        const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  return begun([&] { return session->generate_ids(prompt, options); });
}

py::object chat(const Held& session, const py::list& messages, const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  std::vector<ChatMessage> told;
  for (const py::handle message : messages) {
    told.push_back({message["role"].cast<std::string>(), message["content"].cast<std::string>()});
  }
  return begun([&] { return session->chat(told, options); });
}

}  // namespace

void register_session(py::module_& module) {
  py::class_<TokenStream, Tokens>(module, "Tokens")
      .def("next", next)
      .def("ready", [](const Tokens& tokens) { return tokens->wait(std::chrono::milliseconds(0)); })
      .def("on_ready", on_ready<TokenStream>)
      .def("close", &TokenStream::cancel)
      .def("usage", usage_of);

  py::class_<Session, Held>(module, "Session",
                            "A conversation with a model: one cache serves every turn.")
      .def("generate", generate, py::arg("prompt"),
           "Continues the session's text with `prompt`, and then with the model's words.")
      .def("generate_ids", generate_ids, py::arg("prompt"),
           "The same for a prompt that is already token ids; nothing is added to them.")
      .def("chat", chat, py::arg("messages"),
           "Answers the whole conversation so far, through the model's chat template.")
      .def("ids", &Session::ids, py::call_guard<py::gil_scoped_release>(),
           "All token ids of the session so far, prompts and output.");
}

}  // namespace farlabs
