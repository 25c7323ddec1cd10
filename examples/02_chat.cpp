// A conversation: each turn sends all messages, and computes only what the cache does not hold.
// An answer ends at 200 tokens, at the model's end token, or before a text of ours.
//
//   02_chat models/demo
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <farmesh/farmesh.hpp>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: 02_chat MODEL_FOLDER\n");
    return 2;
  }
  const auto model = farmesh::DistributedModel::open({.folder = argv[1], .local = true});
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().to_string().c_str());
    return 1;
  }
  auto session = model->open_session();
  if (!session) {
    std::fprintf(stderr, "%s\n", session.error().to_string().c_str());
    return 1;
  }

  farmesh::GenerateOptions options;
  options.max_tokens = 200;
  options.stop = {"\n\n"};

  std::vector<farmesh::ChatMessage> messages;
  for (std::string line; std::printf("> "), std::fflush(stdout), std::getline(std::cin, line);) {
    messages.push_back({"user", line});
    farmesh::TokenStream stream = session->chat(messages, options);
    std::string reply;
    for (const farmesh::Token& token : stream) {
      reply += token.text;
      std::printf("%s", token.text.c_str());
      std::fflush(stdout);
    }
    std::printf("\n");
    if (const auto error = stream.error()) {
      std::fprintf(stderr, "%s\n", error->to_string().c_str());
      return 1;
    }
    messages.push_back({"assistant", reply});
  }
  std::printf("\n");
  return 0;
}
