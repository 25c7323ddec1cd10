#include "evm/typed_data.hpp"

#include <map>

#include "evm/keccak.hpp"

namespace farmesh::evm {
namespace {

using Structs = std::vector<TypedStruct>;

Error malformed(const std::string& why) { return {Errc::evm_encoding_invalid, why}; }

std::string own_type(const TypedStruct& value) {
  std::string text = value.name + '(';
  for (const TypedStruct::Member& member : value.members) {
    if (text.back() != '(') text += ',';
    text += member.type + ' ' + member.name;
  }
  return text + ')';
}

void collect_types(const TypedStruct& value, std::map<std::string, std::string>& types) {
  types.emplace(value.name, own_type(value));
  for (const TypedStruct::Member& member : value.members) {
    if (const Structs* inner = std::get_if<Structs>(&member.value)) {
      for (const TypedStruct& one : *inner) collect_types(one, types);
    }
  }
}

// The word that stands for a value: itself, or its hash if it may be longer than a word.
Result<Bytes32> word_of(const AbiType& type, const AbiValue& value) {
  using Kind = AbiType::Kind;
  if (type.kind == Kind::bytes || type.kind == Kind::string) {
    const Bytes* bytes = std::get_if<Bytes>(&value.value);
    const std::string* text = std::get_if<std::string>(&value.value);
    if (type.kind == Kind::bytes && bytes != nullptr) return keccak256(*bytes);
    if (type.kind == Kind::string && text != nullptr) return keccak256(*text);
    return malformed("a value that does not fit its type");
  }
  if (type.kind == Kind::array) {
    const AbiValue::Members* members = std::get_if<AbiValue::Members>(&value.value);
    if (members == nullptr || (type.size != 0 && members->size() != type.size)) {
      return malformed("a value that does not fit its type");
    }
    Bytes words;
    for (const AbiValue& member : *members) {
      const Result<Bytes32> word = word_of(type.members[0], member);
      if (!word) return word;
      append(words, *word);
    }
    return keccak256(words);
  }
  const Result<Bytes> encoded =
      encode_abi(AbiType{.kind = Kind::tuple, .members = {type}}, {value});
  if (!encoded) return encoded.error();
  return U256::from_big_endian(*encoded).to_big_endian();
}

Result<Bytes32> word_of(const TypedStruct::Member& member) {
  if (const AbiValue* value = std::get_if<AbiValue>(&member.value)) {
    const Result<AbiType> type = AbiType::parse(member.type);
    if (!type || type->kind == AbiType::Kind::tuple) {
      return malformed("not a type of typed data: " + member.type);
    }
    return word_of(*type, *value);
  }
  const Structs& inner = std::get<Structs>(member.value);
  // Without one, nothing says what the struct looks like.
  if (inner.empty()) return malformed("an empty array of structs: " + member.name);
  Bytes words;
  for (const TypedStruct& one : inner) {
    if (member.type != one.name && member.type != one.name + "[]") {
      return malformed("a " + one.name + " where a " + member.type + " belongs");
    }
    const Result<Bytes32> hash = hash_struct(one);
    if (!hash) return hash;
    append(words, *hash);
  }
  if (member.type.ends_with("[]")) return keccak256(words);
  if (inner.size() != 1) return malformed("several structs where one belongs: " + member.name);
  return U256::from_big_endian(words).to_big_endian();
}

}  // namespace

std::string encode_type(const TypedStruct& value) {
  std::map<std::string, std::string> types;
  collect_types(value, types);
  types.erase(value.name);
  std::string text = own_type(value);
  for (const auto& [name, type] : types) text += type;
  return text;
}

Result<Bytes32> hash_struct(const TypedStruct& value) {
  const Bytes32 type_hash = keccak256(encode_type(value));
  Bytes words(type_hash.begin(), type_hash.end());
  for (const TypedStruct::Member& member : value.members) {
    const Result<Bytes32> word = word_of(member);
    if (!word) return word;
    append(words, *word);
  }
  return keccak256(words);
}

Result<Bytes32> domain_separator(const TypedDomain& domain) {
  TypedStruct value{"EIP712Domain",
                    {{"string", "name", domain.name}, {"string", "version", domain.version}}};
  if (domain.chain_id) value.members.push_back({"uint256", "chainId", AbiValue(*domain.chain_id)});
  if (domain.verifying_contract) {
    value.members.push_back({"address", "verifyingContract", AbiValue(*domain.verifying_contract)});
  }
  return hash_struct(value);
}

Result<Bytes> typed_preimage(const TypedDomain& domain, const TypedStruct& value) {
  const Result<Bytes32> separator = domain_separator(domain);
  if (!separator) return separator.error();
  const Result<Bytes32> hash = hash_struct(value);
  if (!hash) return hash.error();
  Bytes preimage{0x19, 0x01};
  append(preimage, *separator);
  append(preimage, *hash);
  return preimage;
}

Result<Bytes32> typed_digest(const TypedDomain& domain, const TypedStruct& value) {
  const Result<Bytes> preimage = typed_preimage(domain, value);
  if (!preimage) return preimage.error();
  return keccak256(*preimage);
}

TypedStruct typed(const Reservation& reservation) {
  return {"Reservation",
          {{"address", "user", AbiValue(reservation.user)},
           {"bytes32", "requestId", AbiValue(reservation.request_id)},
           {"uint256", "amount", AbiValue(reservation.amount)},
           {"uint64", "deadline", AbiValue(reservation.deadline)}}};
}

TypedDomain escrow_domain(std::uint64_t chain_id, const Address& escrow) {
  return {"FarMesh InferenceEscrow", "1", U256(chain_id), escrow};
}

TypedStruct typed(const Permit& permit) {
  return {"Permit",
          {{"address", "owner", AbiValue(permit.owner)},
           {"address", "spender", AbiValue(permit.spender)},
           {"uint256", "value", AbiValue(permit.value)},
           {"uint256", "nonce", AbiValue(permit.nonce)},
           {"uint256", "deadline", AbiValue(permit.deadline)}}};
}

}  // namespace farmesh::evm
