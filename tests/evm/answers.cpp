// Answers questions about src/evm, so that compare.mjs can hold it against viem: a JSON object a
// line in, its answer a line out. {"error": …} is an answer too.
#include <cstdio>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

#include "base/assert.hpp"
#include "evm/abi.hpp"
#include "evm/keccak.hpp"
#include "evm/keystore.hpp"
#include "evm/merkle.hpp"
#include "evm/signature.hpp"
#include "evm/transaction.hpp"
#include "evm/typed_data.hpp"

namespace {

using namespace farmesh;
using namespace farmesh::evm;
using Json = nlohmann::json;
using Kind = AbiType::Kind;

constexpr std::size_t kMaxBytes = 1 << 20;

/// The value, or an error that the other side sees.
template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().to_string());
  return *std::move(result);
}

std::string text(const Json& object, const char* name) {
  return object.at(name).get<std::string>();
}
Bytes bytes(const Json& value) { return need(parse_hex0x(value.get<std::string>(), kMaxBytes)); }
U256 number(const Json& value) { return need(U256::parse_decimal(value.get<std::string>())); }

// --- ABI values --------------------------------------------------------------------------------

AbiValue to_value(const AbiType& type, const Json& json) {
  switch (type.kind) {
    case Kind::uint: return number(json);
    case Kind::boolean: return std::uint64_t{json.get<bool>() ? 1U : 0U};
    case Kind::address: return need(parse_address(json.get<std::string>()));
    case Kind::fixed_bytes:
    case Kind::bytes: return bytes(json);
    case Kind::string: return json.get<std::string>();
    case Kind::array:
    case Kind::tuple: break;
  }
  AbiValue::Members members;
  for (std::size_t i = 0; i < json.size(); ++i) {
    members.push_back(to_value(type.members[type.kind == Kind::tuple ? i : 0], json[i]));
  }
  return members;
}

Json to_json(const AbiType& type, const AbiValue& value) {
  switch (type.kind) {
    case Kind::uint: return value.number().to_decimal();
    case Kind::boolean: return !value.number().is_zero();
    case Kind::address: return to_string(value.address());
    case Kind::fixed_bytes:
    case Kind::bytes: return to_hex0x(value.bytes());
    case Kind::string: return value.text();
    case Kind::array:
    case Kind::tuple: break;
  }
  Json members = Json::array();
  for (std::size_t i = 0; i < value.members().size(); ++i) {
    members.push_back(to_json(type.members[type.kind == Kind::tuple ? i : 0], value.members()[i]));
  }
  return members;
}

Json encode(const Json& question) {
  const AbiType type = need(AbiType::parse(text(question, "type")));
  return to_hex0x(need(encode_abi(type, to_value(type, question.at("values")).members())));
}

Json decode(const Json& question) {
  const AbiType type = need(AbiType::parse(text(question, "type")));
  return to_json(type, AbiValue(need(decode_abi(type, bytes(question.at("data"))))));
}

// --- signatures --------------------------------------------------------------------------------

Json signed_digest(const Json& question, const Bytes32& digest) {
  const PrivateKey key = need(parse_private_key(text(question, "key")));
  return {{"digest", to_hex0x(digest)}, {"signature", to_hex0x(sign(key, digest).to_bytes())}};
}

TypedStruct to_struct(const Json& json) {
  TypedStruct value{text(json, "name"), {}};
  for (const Json& member : json.at("members")) {
    TypedStruct::Member made{text(member, "type"), text(member, "name"), {}};
    if (member.contains("structs")) {
      std::vector<TypedStruct> inner;
      for (const Json& one : member.at("structs")) inner.push_back(to_struct(one));
      made.value = std::move(inner);
    } else {
      made.value = to_value(need(AbiType::parse(made.type)), member.at("value"));
    }
    value.members.push_back(std::move(made));
  }
  return value;
}

Json typed(const Json& question) {
  const Json& domain = question.at("domain");
  TypedDomain made{text(domain, "name"), text(domain, "version"), {}, {}};
  if (domain.contains("chainId")) made.chain_id = number(domain.at("chainId"));
  if (domain.contains("verifyingContract")) {
    made.verifying_contract = need(parse_address(text(domain, "verifyingContract")));
  }
  return signed_digest(question, need(typed_digest(made, to_struct(question.at("struct")))));
}

// --- transactions ------------------------------------------------------------------------------

Transaction to_transaction(const Json& json) {
  Transaction tx;
  tx.kind = text(json, "type") == "legacy" ? Transaction::Kind::legacy : Transaction::Kind::eip1559;
  tx.chain_id = json.at("chainId").get<std::uint64_t>();
  tx.nonce = json.at("nonce").get<std::uint64_t>();
  tx.gas_limit = json.at("gas").get<std::uint64_t>();
  tx.max_fee_per_gas = number(json.at("maxFeePerGas"));
  tx.max_priority_fee_per_gas = number(json.at("maxPriorityFeePerGas"));
  if (json.contains("to")) tx.to = need(parse_address(text(json, "to")));
  tx.value = number(json.at("value"));
  tx.data = bytes(json.at("data"));
  for (const Json& entry : json.at("accessList")) {
    Transaction::Access access{need(parse_address(text(entry, "address"))), {}};
    for (const Json& slot : entry.at("storageKeys")) {
      access.slots.push_back(U256::from_big_endian(bytes(slot)).to_big_endian());
    }
    tx.access_list.push_back(std::move(access));
  }
  return tx;
}

Json to_json(const Transaction& tx) {
  Json json = {{"type", tx.kind == Transaction::Kind::legacy ? "legacy" : "eip1559"},
               {"chainId", tx.chain_id},
               {"nonce", tx.nonce},
               {"gas", tx.gas_limit},
               {"maxFeePerGas", tx.max_fee_per_gas.to_decimal()},
               {"maxPriorityFeePerGas", tx.max_priority_fee_per_gas.to_decimal()},
               {"value", tx.value.to_decimal()},
               {"data", to_hex0x(tx.data)},
               {"accessList", Json::array()}};
  if (tx.to) json["to"] = to_string(*tx.to);
  for (const Transaction::Access& access : tx.access_list) {
    Json slots = Json::array();
    for (const Bytes32& slot : access.slots) slots.push_back(to_hex0x(slot));
    json["accessList"].push_back({{"address", to_string(access.address)}, {"storageKeys", slots}});
  }
  return json;
}

Json sign_it(const Json& question) {
  KeySigner signer(need(parse_private_key(text(question, "key"))));
  const SignedTransaction made =
      need(sign_transaction(to_transaction(question.at("transaction")), signer));
  return {{"raw", to_hex0x(made.raw)}, {"hash", to_hex0x(made.hash)}};
}

Json decode_it(const Json& question) {
  const SignedTransaction decoded = need(decode_transaction(bytes(question.at("raw"))));
  return {{"transaction", to_json(decoded.transaction)},
          {"sender", to_string(decoded.sender)},
          {"hash", to_hex0x(decoded.hash)}};
}

Json merkle(const Json& question) {
  const AbiType type = need(AbiType::parse(text(question, "type")));
  std::vector<Bytes32> leaves;
  for (const Json& values : question.at("leaves")) {
    leaves.push_back(need(merkle_leaf(type, to_value(type, values).members())));
  }
  const MerkleTree tree(leaves);
  Json proofs = Json::array();
  for (std::size_t i = 0; i < tree.size(); ++i) {
    Json proof = Json::array();
    for (const Bytes32& sibling : tree.proof(i)) proof.push_back(to_hex0x(sibling));
    proofs.push_back(std::move(proof));
  }
  return {{"root", to_hex0x(tree.root())}, {"proofs", std::move(proofs)}};
}

using Answer = Json (*)(const Json&);
const std::map<std::string, Answer> kAnswers = {
    {"keccak", [](const Json& q) -> Json { return to_hex0x(keccak256(bytes(q.at("data")))); }},
    {"address",
     [](const Json& q) -> Json {
       return to_string(need(parse_private_key(text(q, "key"))).address());
     }},
    {"checksum",
     [](const Json& q) -> Json { return to_string(need(parse_address(text(q, "address")))); }},
    {"personal",
     [](const Json& q) -> Json { return signed_digest(q, personal_digest(text(q, "message"))); }},
    {"recover",
     [](const Json& q) -> Json {
       const Signature signature = need(Signature::parse(text(q, "signature")));
       return to_string(need(recover(signature, personal_digest(text(q, "message")))));
     }},
    {"encode", encode},
    {"decode", decode},
    {"typed", typed},
    {"sign", sign_it},
    {"transaction", decode_it},
    {"merkle", merkle},
};

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      const Json question = Json::parse(line);
      answer = {{"answer", kAnswers.at(text(question, "ask"))(question)}};
    } catch (const std::exception& failure) {
      answer = {{"error", failure.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
}
