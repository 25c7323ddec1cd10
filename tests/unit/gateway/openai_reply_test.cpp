// OpenAI's replies, compared whole: names, types and order are a contract.
#include "gateway/openai_reply.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace farmesh::gateway {
namespace {

const ReplyHead kHead{"chatcmpl-1", 7, "org/model", "fp_1", false};

std::string bytes_of(TokenId id) {
  if (id == 1) return "\xe2\x80";
  if (id == 2) return " \"was\"";
  return "a";
}

Token token(TokenId id, std::string text, float logprob) {
  Token token;
  token.id = id;
  token.text = std::move(text);
  token.logprob = logprob;
  token.top = {{id, logprob}, {3, -2}};
  return token;
}

}  // namespace

TEST_SUITE("gateway/openai_reply") {
  TEST_CASE("the chunks of a chat") {
    CHECK(chat_role_chunk(kHead, 0) ==
          R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"org/model",)"
          R"("system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant",)"
          R"("content":"","refusal":null},"logprobs":null,"finish_reason":null}]})");
    CHECK(chat_chunk(kHead, 1, " \"was\"\n", {}, false, bytes_of) ==
          R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"org/model",)"
          R"("system_fingerprint":"fp_1","choices":[{"index":1,"delta":{"content":" \"was\"\n"},)"
          R"("logprobs":null,"finish_reason":null}]})");
    CHECK(chat_finish_chunk(kHead, 0, FinishReason::length) ==
          R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"org/model",)"
          R"("system_fingerprint":"fp_1","choices":[{"index":0,"delta":{},"logprobs":null,)"
          R"("finish_reason":"length"}]})");
  }

  TEST_CASE("usage is null in every chunk but the last, when it was asked for") {
    ReplyHead head = kHead;
    head.include_usage = true;
    const auto chunk = nlohmann::json::parse(chat_role_chunk(head, 0));
    REQUIRE(chunk.contains("usage"));
    CHECK(chunk["usage"].is_null());
    CHECK_FALSE(chunk.contains("cost_far"));
    head.cost_far = "0.0002";
    CHECK(nlohmann::json::parse(chat_role_chunk(head, 0))["cost_far"] == "0.0002");
    CHECK(nlohmann::json::parse(completion_finish_chunk(head, 0, FinishReason::stop))["cost_far"] ==
          "0.0002");
    const auto last = nlohmann::json::parse(usage_chunk(head, true, {5, 3, 0}, "0.0003"));
    CHECK(last["choices"].empty());
    CHECK(last["usage"]["prompt_tokens"] == 5);
    CHECK(last["usage"]["completion_tokens"] == 3);
    CHECK(last["usage"]["total_tokens"] == 8);
    CHECK(last["usage"]["cost_far"] == "0.0003");
    CHECK_FALSE(last["usage"].contains("nodes_used"));
    const auto told = nlohmann::json::parse(
        usage_chunk(head, true, {5, 3, 0, {{"aa", {0, 2}}, {"bb", {2, 3}}}}, "0.0003"));
    CHECK(told["usage"]["nodes_used"].dump() ==
          R"([{"layers":[0,1],"node_id":"aa"},{"layers":[2],"node_id":"bb"}])");
  }

  TEST_CASE("a chat's log-probabilities show a token's own bytes, whole characters or not") {
    const std::vector<Token> tokens{token(1, "", -0.5f), token(2, "\xe2\x80\x9c", -9e9f)};
    const auto chunk = nlohmann::json::parse(chat_chunk(kHead, 0, "x", tokens, true, bytes_of));
    const auto& content = chunk["choices"][0]["logprobs"]["content"];
    REQUIRE(content.size() == 2);
    CHECK(content[0]["token"] == "bytes:\\xe2\\x80");
    CHECK(content[0]["bytes"] == std::vector<int>{0xe2, 0x80});
    CHECK(content[0]["logprob"] == -0.5);
    CHECK(content[0]["top_logprobs"].size() == 2);
    CHECK(content[0]["top_logprobs"][1]["token"] == "a");
    CHECK(content[1]["token"] == " \"was\"");
    CHECK(content[1]["logprob"] == -9999);
  }

  TEST_CASE("a whole chat") {
    Choice choice;
    choice.text = "Hi";
    choice.reason = FinishReason::stop;
    CHECK(chat_reply(kHead, std::vector<Choice>{choice}, {5, 1, 4}, "", bytes_of) ==
          R"({"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"org/model",)"
          R"("system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant",)"
          R"("content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":)"
          R"({"prompt_tokens":5,"completion_tokens":1,"total_tokens":6,)"
          R"("prompt_tokens_details":{"cached_tokens":4}}})");
  }

  TEST_CASE("a whole completion counts offsets in characters, after what was echoed") {
    Choice choice;
    choice.text = "\xc3\xa4 b";
    choice.reason = FinishReason::length;
    choice.with_logprobs = true;
    choice.echoed = 4;
    choice.tokens = {token(3, "\xc3\xa4", -1), token(2, " b", -2)};
    const auto reply = nlohmann::json::parse(
        completion_reply(kHead, std::vector<Choice>{choice}, {1, 2, 0}, "", bytes_of));
    CHECK(reply["object"] == "text_completion");
    const auto& logprobs = reply["choices"][0]["logprobs"];
    CHECK(logprobs["tokens"] == std::vector<std::string>{"a", " \"was\""});
    CHECK(logprobs["token_logprobs"] == std::vector<double>{-1, -2});
    CHECK(logprobs["text_offset"] == std::vector<int>{4, 5});
    CHECK(logprobs["top_logprobs"][0]["a"] == -2);
  }

  TEST_CASE("the list of models") {
    CHECK(model_list(std::vector<ListedModel>{{"org/model", 7}}) ==
          R"({"object":"list","data":[{"id":"org/model","object":"model","created":7,)"
          R"("owned_by":"farmesh"}]})");
  }
}

}  // namespace farmesh::gateway
