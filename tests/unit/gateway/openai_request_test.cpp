// What OpenAI's clients may send, and what each wrong field is answered with.
#include "gateway/openai_request.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "gateway/json_fields.hpp"

namespace farmesh::gateway {
namespace {

using nlohmann::json;

json chat_body() { return {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}}; }

json completion_body() { return {{"model", "m"}, {"prompt", "Hi"}}; }

ChatRequest chat_with(const json& more) {
  json body = chat_body();
  body.update(more);
  const Checked<ChatRequest> request = parse_chat_request(body.dump());
  INFO(more.dump(), ": ", request ? std::string() : request.problem().message);
  REQUIRE(request);
  return *request;
}

Problem refusal(const json& more) {
  json body = chat_body();
  body.update(more);
  const Checked<ChatRequest> request = parse_chat_request(body.dump());
  INFO(body.dump());
  REQUIRE_FALSE(request);
  CHECK(request.problem().status == 400);
  return request.problem();
}

}  // namespace

TEST_SUITE("gateway/openai_request") {
  TEST_CASE("a chat of one message has OpenAI's defaults") {
    const ChatRequest request = chat_with(json::object());
    CHECK(request.options.model == "m");
    REQUIRE(request.messages.size() == 1);
    CHECK(request.messages[0].role == "user");
    CHECK(request.messages[0].content == "Hi");
    CHECK(request.options.generate.sampling.temperature == 1);
    CHECK(request.options.generate.sampling.top_p == 1);
    CHECK(request.options.choices == 1);
    CHECK_FALSE(request.options.stream);
    CHECK_FALSE(request.options.has_seed);
    CHECK_FALSE(request.options.max_tokens);
  }

  TEST_CASE("every sampling field arrives where it belongs") {
    const ChatRequest request =
        chat_with({{"temperature", 0.5},
                   {"top_p", 0.25},
                   {"presence_penalty", -1},
                   {"frequency_penalty", 2},
                   {"seed", -1},
                   {"n", 3},
                   {"stop", {"a", "b"}},
                   {"logit_bias", {{"7", -100}}},
                   {"logprobs", true},
                   {"top_logprobs", 5},
                   {"max_tokens", 4},
                   {"max_completion_tokens", 9},
                   {"top_k", 3},
                   {"max_cost_far", "0.05"},
                   {"stream", true},
                   {"stream_options", {{"include_usage", true}, {"include_nodes", true}}}});
    const SamplingOptions& sampling = request.options.generate.sampling;
    CHECK(sampling.temperature == 0.5f);
    CHECK(sampling.top_p == 0.25f);
    CHECK(sampling.presence_penalty == -1);
    CHECK(sampling.frequency_penalty == 2);
    CHECK(sampling.seed == ~std::uint64_t(0));
    CHECK(request.options.has_seed);
    CHECK(request.options.choices == 3);
    CHECK(request.options.generate.stop == std::vector<std::string>{"a", "b"});
    REQUIRE(sampling.logit_bias.size() == 1);
    CHECK(sampling.logit_bias[0].token == 7);
    CHECK(sampling.logit_bias[0].bias == -100);
    CHECK(request.options.logprobs);
    CHECK(sampling.top_logprobs == 5);
    CHECK(request.options.max_tokens == 9);
    CHECK(sampling.top_k == 3);
    CHECK(request.options.max_cost == Far::parse("0.05"));
    CHECK(request.options.stream);
    CHECK(request.options.include_usage);
    CHECK(request.options.include_nodes);
  }

  TEST_CASE("text parts are joined, and a developer is the system") {
    const ChatRequest request = chat_with(
        {{"messages",
          {{{"role", "developer"}, {"content", "Be brief."}},
           {{"role", "user"},
            {"content", {{{"type", "text"}, {"text", "On"}}, {{"type", "text"}, {"text", "ce"}}}}},
           {{"role", "assistant"},
            {"content", "upon"},
            {"refusal", nullptr},
            {"tool_calls", json::array()}}}}});
    REQUIRE(request.messages.size() == 3);
    CHECK(request.messages[0].role == "system");
    CHECK(request.messages[1].content == "Once");
    CHECK(request.messages[2].content == "upon");
  }

  TEST_CASE("what asks for nothing that is not done anyway is taken") {
    chat_with({{"user", "u"},
               {"safety_identifier", "u"},
               {"prompt_cache_key", "k"},
               {"prompt_cache_retention", "in_memory"},
               {"metadata", json::object()},
               {"store", false},
               {"tools", json::array()},
               {"tool_choice", "none"},
               {"response_format", {{"type", "text"}}},
               {"modalities", {"text"}},
               {"service_tier", "auto"},
               {"stream", true},
               {"stream_options", {{"include_obfuscation", false}}},
               {"stop", nullptr},
               {"seed", nullptr}});
  }

  TEST_CASE("every field of OpenAI's that is not served is refused by its name") {
    const json function{{"type", "function"}, {"function", {{"name", "f"}}}};
    const struct {
      const char* field;
      json value;
    } chat_fields[] = {
        {"audio", {{"voice", "alloy"}, {"format", "wav"}}},
        {"function_call", {{"name", "f"}}},
        {"functions", {{{"name", "f"}}}},
        {"metadata", {{"a", "b"}}},
        {"modalities", {"text", "audio"}},
        {"parallel_tool_calls", true},
        {"prediction", {{"type", "content"}, {"content", "x"}}},
        {"prompt_cache_retention", "24h"},
        {"reasoning_effort", "low"},
        {"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "s"}}}}},
        {"response_format", {{"type", "json_object"}}},
        {"service_tier", "flex"},
        {"store", true},
        {"tool_choice", "required"},
        {"tools", {function}},
        {"verbosity", "low"},
        {"web_search_options", json::object()},
        // Of completions alone, and so nobody's here.
        {"best_of", 2},
        {"echo", true},
        {"suffix", "x"},
        {"prompt", "x"},
    };
    for (const auto& [field, value] : chat_fields) {
      const Problem problem = refusal({{field, value}});
      INFO(field);
      CHECK(problem.param == field);
      CHECK((problem.code == "unsupported_parameter" || problem.code == "unknown_parameter"));
    }
    const json message_fields{{"name", "Ann"},
                              {"refusal", "no"},
                              {"tool_call_id", "1"},
                              {"tool_calls", {function}},
                              {"function_call", {{"name", "f"}}},
                              {"audio", {{"id", "a"}}},
                              {"annotations", {{{"type", "url_citation"}}}}};
    for (const auto& [field, value] : message_fields.items()) {
      const json message{{"role", "assistant"}, {"content", "x"}, {field, value}};
      const Problem problem = refusal({{"messages", {message}}});
      CHECK(problem.param == "messages[0]." + field);
      CHECK(problem.code == "unsupported_parameter");
    }
    CHECK(refusal({{"stream", true}, {"stream_options", {{"include_obfuscation", true}}}}).param ==
          "stream_options.include_obfuscation");
    const Problem unknown = refusal({{"temprature", 1}});
    CHECK(unknown.param == "temprature");
    CHECK(unknown.code == "unknown_parameter");
    const Problem image = refusal(
        {{"messages",
          {{{"role", "user"}, {"content", {{{"type", "image_url"}, {"image_url", "x"}}}}}}}});
    CHECK(image.param == "messages[0].content[0].type");
  }

  TEST_CASE("a wrong type or value names its field") {
    const struct {
      json more;
      const char* param;
      const char* code;
    } cases[] = {
        {{{"model", 1}}, "model", "invalid_type"},
        {{{"model", nullptr}}, "model", "missing_required_parameter"},
        {{{"messages", nullptr}}, "messages", "missing_required_parameter"},
        {{{"messages", "Hi"}}, "messages", "invalid_type"},
        {{{"messages", json::array()}}, "messages", "invalid_value"},
        {{{"messages", {1}}}, "messages[0]", "invalid_type"},
        {{{"messages", {{{"role", "tool"}, {"content", "x"}}}}},
         "messages[0].role",
         "invalid_value"},
        {{{"messages", {{{"role", "user"}}}}}, "messages[0].content", "missing_required_parameter"},
        {{{"messages", {{{"role", "user"}, {"content", 1}}}}},
         "messages[0].content",
         "invalid_type"},
        {{{"temperature", "1"}}, "temperature", "invalid_type"},
        {{{"temperature", 2.5}}, "temperature", "invalid_value"},
        {{{"max_tokens", 1.5}}, "max_tokens", "invalid_type"},
        {{{"max_tokens", 0}}, "max_tokens", "invalid_value"},
        {{{"max_tokens", 18446744073709551615u}}, "max_tokens", "invalid_value"},
        {{{"n", 0}}, "n", "invalid_value"},
        {{{"n", 17}}, "n", "invalid_value"},
        {{{"stream", 1}}, "stream", "invalid_type"},
        {{{"stream_options", {{"include_usage", true}}}}, "stream_options", "invalid_value"},
        {{{"stop", {1}}}, "stop", "invalid_type"},
        {{{"stop", ""}}, "stop", "invalid_value"},
        {{{"stop", std::vector<std::string>(17, "a")}}, "stop", "array_above_max_length"},
        {{{"logit_bias", {{"seven", 1}}}}, "logit_bias", "invalid_value"},
        {{{"logit_bias", {{"7", 101}}}}, "logit_bias", "invalid_value"},
        {{{"top_logprobs", 3}}, "top_logprobs", "invalid_value"},
        {{{"logprobs", true}, {"top_logprobs", 21}}, "top_logprobs", "invalid_value"},
        {{{"user", 7}}, "user", "invalid_type"},
        {{{"safety_identifier", 7}}, "safety_identifier", "invalid_type"},
        {{{"prompt_cache_key", 7}}, "prompt_cache_key", "invalid_type"},
        {{{"max_cost_far", 0.05}}, "max_cost_far", "invalid_type"},
        {{{"max_cost_far", "-1"}}, "max_cost_far", "invalid_value"},
        {{{"max_cost_far", "0.123456789"}}, "max_cost_far", "invalid_value"},
    };
    for (const auto& wrong : cases) {
      const Problem problem = refusal(wrong.more);
      CHECK(problem.param == wrong.param);
      CHECK(problem.code == wrong.code);
    }
  }

  TEST_CASE("prompts come as a text, texts, ids, or lists of ids") {
    const auto prompts = [](const json& prompt) {
      json body = completion_body();
      body["prompt"] = prompt;
      const Checked<CompletionRequest> request = parse_completion_request(body.dump());
      REQUIRE(request);
      CHECK(request->options.max_tokens == 16);
      return request->prompts;
    };
    CHECK(prompts("Hi") == std::vector<Prompt>{"Hi"});
    CHECK(prompts({"a", "b"}) == std::vector<Prompt>{"a", "b"});
    CHECK(prompts({1, 2}) == std::vector<Prompt>{std::vector<TokenId>{1, 2}});
    CHECK(prompts(json::array({json::array({1}), json::array({2, 3})})) ==
          std::vector<Prompt>{std::vector<TokenId>{1}, std::vector<TokenId>{2, 3}});
  }

  TEST_CASE("a prompt of another kind, or of too many texts, is refused") {
    for (const json& prompt : std::vector<json>{1,
                                                json::array(),
                                                {1, "a"},
                                                {-1},
                                                {1.5},
                                                {4294967296},
                                                json::array({json::array()}),
                                                std::vector<std::string>(65, "a")}) {
      json body = completion_body();
      body["prompt"] = prompt;
      const Checked<CompletionRequest> request = parse_completion_request(body.dump());
      INFO(prompt.dump());
      REQUIRE_FALSE(request);
      CHECK(request.problem().param == "prompt");
    }
    json many = completion_body();
    many["prompt"] = std::vector<std::string>(64, "a");
    many["n"] = 3;
    CHECK(parse_completion_request(many.dump()).problem().param == "n");
  }

  TEST_CASE("what a completion cannot do is refused by its name") {
    const auto param = [](const json& more) {
      json body = completion_body();
      body.update(more);
      const Checked<CompletionRequest> request = parse_completion_request(body.dump());
      REQUIRE_FALSE(request);
      return request.problem().param;
    };
    CHECK(param({{"best_of", 2}}) == "best_of");
    CHECK(param({{"suffix", "x"}}) == "suffix");
    CHECK(param({{"echo", true}, {"logprobs", 1}}) == "logprobs");
    CHECK(param({{"messages", json::array()}}) == "messages");
    CHECK(param({{"tools", json::array()}}) == "tools");
    CHECK(param({{"response_format", {{"type", "json_object"}}}}) == "response_format");
    CHECK(param({{"store", true}}) == "store");
    CHECK(param({{"metadata", {{"a", "b"}}}}) == "metadata");
    CHECK(param({{"stream", true}, {"stream_options", {{"include_obfuscation", true}}}}) ==
          "stream_options.include_obfuscation");
  }

  TEST_CASE("a body that is no JSON object, no UTF-8, too deep or too large is refused") {
    for (const std::string& body :
         {std::string(), std::string("{"), std::string("[]"), std::string("\"x\""),
          std::string("{\"model\":\"\xff\"}"), std::string("{\"model\":NaN}"),
          std::string("{\"model\":\"m\"}{}")}) {
      CHECK(parse_chat_request(body).problem().code == "invalid_json");
    }
    const std::string deep = "{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}";
    CHECK(parse_chat_request(deep).problem().code == "body_too_complex");
    std::string wide = "{\"prompt\":[1";
    for (std::size_t i = 0; i < kMaxBodyValues; ++i) wide += ",1";
    CHECK(parse_completion_request(wide + "]}").problem().code == "body_too_complex");
    const std::string large(kMaxBodyBytes + 1, ' ');
    CHECK(parse_chat_request(large).problem().status == 413);
  }
}

}  // namespace farmesh::gateway
