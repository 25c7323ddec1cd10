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

using Tokens = std::shared_ptr<TokenStream>;

py::object token_of(const Token& token) {
  // Found once, and never destroyed: the interpreter's end may come before.
  static const auto& kind = *new py::object(py::module_::import("farlabs._types").attr("Token"));
  py::list top;
  for (const TokenLogprob& each : token.top) top.append(py::make_tuple(each.id, each.logprob));
  return kind(token.id, token.text, token.logprob, top);
}

py::object next(const Tokens& tokens) {
  try {
    const std::optional<Token> token = value_of(wait_for([tokens] { return tokens->next(); }));
    if (!token) throw py::stop_iteration();
    return token_of(*token);
  } catch (const py::error_already_set&) {
    tokens->cancel();  // after Ctrl-C nobody reads on; after a failure it changes nothing
    throw;
  }
}

py::dict usage_of(const Tokens& tokens) {
  const Usage usage = tokens->usage();
  py::list hops;
  for (const HopUsage& hop : usage.hops) {
    py::dict row;
    row["peer"] = hop.peer;
    row["layers"] = py::make_tuple(hop.span.begin, hop.span.end);
    row["ms"] = hop.ms;
    hops.append(row);
  }
  py::dict told;
  told["prompt_tokens"] = usage.prompt_tokens;
  told["tokens"] = usage.tokens;
  told["ttft_ms"] = usage.ttft_ms;
  told["tokens_per_second"] = usage.tokens_per_second;
  told["finish_reason"] = std::string(name(usage.finish));
  told["recoveries"] = usage.recoveries;
  told["numerics_changed"] = usage.numerics_changed;
  told["hops"] = hops;
  return told;
}

/// As of a question to a FarMesh, but for the model and the cost; and `top_logprobs`.
GenerateOptions generate_options(const py::kwargs& given) {
  py::dict rest(given);
  GenerateOptions options;
  std::uint32_t top_logprobs = 0;
  if (rest.contains("top_logprobs")) {
    top_logprobs = rest["top_logprobs"].cast<std::uint32_t>();
    rest.attr("pop")("top_logprobs");
  }
  for (const char* foreign : {"model", "max_cost_far"}) {
    if (rest.contains(foreign)) throw py::type_error(std::string(foreign) + " is a FarMesh's");
  }
  const py::object translate = py::module_::import("farlabs._mesh").attr("native_options");
  const AskOptions ask = options_of(translate(rest));
  options.max_tokens = ask.max_tokens;
  options.sampling = ask.sampling;
  options.sampling.top_logprobs = top_logprobs;
  options.sampling.seed = ask.seed ? *ask.seed : std::random_device{}();
  options.stop = ask.stop;
  options.ignore_eos = ask.ignore_eos;
  return options;
}

/// What `start` gives, begun without the interpreter.
template <class Start>
Tokens begun(Start start) {
  const py::gil_scoped_release release;
  return std::make_shared<TokenStream>(start());
}

Tokens generate(const HeldSession& session, const std::string& prompt, const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  return begun([&] { return session->generate(prompt, options); });
}

Tokens generate_ids(const HeldSession& session, const std::vector<TokenId>& prompt,
                    const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  return begun([&] { return session->generate_ids(prompt, options); });
}

Tokens chat(const HeldSession& session, const py::list& messages, const py::kwargs& given) {
  const GenerateOptions options = generate_options(given);
  std::vector<ChatMessage> told;
  for (const py::handle message : messages) {
    told.push_back({message["role"].cast<std::string>(), message["content"].cast<std::string>()});
  }
  return begun([&] { return session->chat(told, options); });
}

}  // namespace

void register_session(py::module_& module) {
  py::class_<TokenStream, Tokens>(module, "TokenStream",
                                  "The tokens of one turn, as they are made.")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", next)
      .def("cancel", &TokenStream::cancel, "Ends the turn; the session stays usable.")
      .def("usage", usage_of, "So far, or of the whole turn once it has ended.");

  py::class_<HeldSession>(module, "Session",
                          "A conversation with a model: one cache serves every turn.")
      .def("generate", generate, py::arg("prompt"),
           "Continues the session's text with `prompt`, and then with the model's words.")
      .def("generate_ids", generate_ids, py::arg("prompt"),
           "The same for a prompt that is already token ids; nothing is added to them.")
      .def("chat", chat, py::arg("messages"),
           "Answers the whole conversation so far, through the model's chat template.")
      .def(
          "ids", [](const HeldSession& session) { return session->ids(); },
          "All token ids of the session so far, prompts and output.");
}

}  // namespace farlabs
