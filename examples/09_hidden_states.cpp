// The layers without the words: hidden states of a text go through a model's peers, and what comes
// out of the last one is told row by row: how far each moved on its way, and what the head makes of
// it.
//
//   09_hidden_states models/demo "Once upon a time" 127.0.0.1:31330 127.0.0.1:31331
//
// Without peers the layers are computed here.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include <farmesh/farmesh.hpp>

namespace {

int fail(const farmesh::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_string().c_str());
  return 1;
}

// Of bf16, which is the upper half of a float's bits, or of f32.
std::vector<float> floats_of(const farmesh::Rows& rows) {
  const std::size_t size = bytes_of(rows.dtype);
  std::vector<float> values(std::size_t{rows.count} * rows.columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(reinterpret_cast<char*>(&values[i]) + 4 - size, &rows.bytes[i * size], size);
  }
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: 09_hidden_states MODEL_FOLDER TEXT [HOST:PORT…]\n");
    return 2;
  }
  farmesh::ModelOptions options;
  options.folder = argv[1];
  options.peers.assign(argv + 3, argv + argc);
  options.local = argc == 3;
  const auto model = farmesh::DistributedModel::open(options);
  if (!model) return fail(model.error());
  auto session = model->open_hidden_session();
  if (!session) return fail(session.error());

  const auto ids = model->encode(argv[2]);
  if (!ids) return fail(ids.error());
  const auto in = model->embed(*ids);
  if (!in) return fail(in.error());
  const auto out = session->run(*in);
  if (!out) return fail(out.error());
  const auto logits = model->logits(*out);
  if (!logits) return fail(logits.error());

  const std::vector<float> before = floats_of(*in), after = floats_of(*out);
  const std::vector<float> scores = floats_of(*logits);
  for (std::uint32_t row = 0; row < in->count; ++row) {
    double moved = 0;
    for (std::size_t i = std::size_t{row} * in->columns; i < (row + 1ul) * in->columns; ++i) {
      moved += std::pow(double(after[i]) - before[i], 2);
    }
    const float* const score = &scores[std::size_t{row} * logits->columns];
    const auto next = farmesh::TokenId(std::max_element(score, score + logits->columns) - score);
    std::printf("%-12s moved by %6.1f, then likeliest:%s\n", model->decode({(*ids)[row]}).c_str(),
                std::sqrt(moved), model->decode({next}).c_str());
  }
  for (const farmesh::HopUsage& hop : session->hops()) {
    std::printf("layers %u:%u at %s\n", hop.span.begin, hop.span.end, hop.peer.c_str());
  }
  return 0;
}
