// Templates in the manner of the families we serve, against what Jinja2 itself renders.
#include <filesystem>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/mapped_file.hpp"
#include "text/chat_template.hpp"

namespace farmesh::text {
namespace {

using nlohmann::json;

const std::filesystem::path kFolder = FARMESH_SOURCE_DIR "/tests/unit/text/templates";

std::string read(const std::string& name) {
  const Result<std::string> text = read_text_file(kFolder / name, 1u << 20);
  REQUIRE_MESSAGE(text, name);
  return *text;
}

std::vector<ChatMessage> messages_of(const json& list) {
  std::vector<ChatMessage> messages;
  for (const json& item : list) messages.push_back({item["role"], item["content"]});
  return messages;
}

TEST_SUITE("text/chat_template") {
  TEST_CASE("every family's template renders every conversation as Jinja2 does") {
    const json conversations = json::parse(read("conversations.json"));
    const json goldens = json::parse(read("goldens.json"));
    for (const auto& [family, cases] : goldens.items()) {
      const auto chat = ChatTemplate::parse(read(family + ".jinja"), {.bos = "<s>", .eos = "</s>"});
      REQUIRE_MESSAGE(chat, family << ": " << chat.error().to_string());
      for (const auto& [conversation, golden] : cases.items()) {
        const auto messages = messages_of(conversations[conversation]);
        for (const bool generate : {false, true}) {
          CAPTURE(family);
          CAPTURE(conversation);
          CAPTURE(generate);
          const json& expected = golden[generate ? 1 : 0];
          const Result<std::string> text = chat->render(messages, generate);
          REQUIRE_MESSAGE(text.has_value() == expected.contains("text"),
                          (text ? *text : text.error().to_string()));
          if (text) {
            CHECK(*text == expected["text"].get<std::string>());
          } else {
            CHECK(text.error().code == Errc::invalid_argument);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace farmesh::text
