#include "discovery/rendezvous.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/digest.hpp"

namespace farmesh::discovery {
namespace {

std::string bencoded(std::string_view value) {
  return std::to_string(value.size()) + ":" + std::string(value);
}

/// What BEP 44 has signed for an item without salt.
std::string signed_text(const DhtItem& item) {
  return "3:seqi" + std::to_string(item.sequence) + "e1:v" + bencoded(item.value);
}

}  // namespace

RendezvousKey rendezvous_key(std::string_view mesh, const ModelHash& model, std::uint32_t bucket) {
  std::string name = "farmesh rendezvous v1 ";
  name += mesh;
  name += '\0';
  name.append(model.bytes.begin(), model.bytes.end());
  name += std::to_string(bucket);
  const Sha256Digest digest = sha256(as_view(name));
  RendezvousKey key;
  std::copy_n(digest.begin(), key.size(), key.begin());
  return key;
}

DhtItem make_item(const identity::NodeKey& key, std::int64_t sequence, std::string value) {
  DhtItem item;
  item.key = key.public_key();
  item.sequence = sequence;
  item.value = std::move(value);
  FARMESH_ASSERT(bencoded(item.value).size() <= kMaxItemBytes);
  item.signature = key.sign_bare(as_view(signed_text(item)));
  return item;
}

bool verify_item(const DhtItem& item) {
  return identity::verify_bare(item.key, as_view(signed_text(item)), item.signature);
}

}  // namespace farmesh::discovery
