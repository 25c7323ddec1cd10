// A head that makes its driver wait while the reader of the tokens is behind.
//
// Stands between driver/ and the real head: every step begins with an embedding, so holding
// embeddings back holds the turn, and the network thread goes on with other sessions.
// Threading: network thread, as every head.
#pragma once

#include <functional>
#include <vector>

#include "wire/head.hpp"

namespace farmesh::client {

class GatedHead final : public wire::Head {
 public:
  /// `is_open` is asked at each embedding and each poke().
  GatedHead(wire::Head& head, std::function<bool()> is_open);

  void embed(std::vector<TokenId> ids, std::function<void(Result<Payload>)> done) override;
  void logits(Payload hidden, std::uint32_t rows,
              std::function<void(Result<std::vector<float>>)> done) override;

  /// The gate may have opened: lets what waits go on.
  void poke();

 private:
  struct Waiting {
    std::vector<TokenId> ids;
    std::function<void(Result<Payload>)> done;
  };

  wire::Head& head_;
  std::function<bool()> is_open_;
  std::vector<Waiting> waiting_;
};

}  // namespace farmesh::client
