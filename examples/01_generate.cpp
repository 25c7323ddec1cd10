// The smallest program: a model in this process, one prompt, tokens as they come.
//
//   01_generate models/demo "Once upon a time"
#include <cstdio>

#include <farmesh/farmesh.hpp>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: 01_generate MODEL_FOLDER PROMPT\n");
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
  options.max_tokens = 100;
  options.sampling.temperature = 0;  // always the likeliest token

  farmesh::TokenStream stream = session->generate(argv[2], options);
  for (const farmesh::Token& token : stream) {
    std::printf("%s", token.text.c_str());
    std::fflush(stdout);
  }
  std::printf("\n");
  if (const auto error = stream.error()) {
    std::fprintf(stderr, "%s\n", error->to_string().c_str());
    return 1;
  }
  return 0;
}
