// The smallest program on an installed libfarmesh: a model of this machine continues a prompt.
#include <cstdlib>
#include <iostream>

#include <farmesh/farmesh.hpp>

namespace {

int fail(const farmesh::Error& error) {
  std::cerr << error.to_string() << '\n';
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: outside MODEL_FOLDER PROMPT\n";
    return EXIT_FAILURE;
  }
  const auto model = farmesh::DistributedModel::open({.folder = argv[1], .local = true});
  if (!model) return fail(model.error());
  auto session = model->open_session();
  if (!session) return fail(session.error());

  farmesh::TokenStream stream =
      session->generate(argv[2], {.max_tokens = 16, .sampling = {.temperature = 0}});
  for (const farmesh::Token& token : stream) std::cout << token.text << std::flush;
  std::cout << '\n';
  if (const auto error = stream.error()) return fail(*error);
  std::cerr << stream.usage().tokens << " tokens\n";
  return EXIT_SUCCESS;
}
