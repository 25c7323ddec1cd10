// Typed structured data (EIP-712): what wallets show and sign, and contracts check.
//
// A struct is described where it is signed: its name, and each member's type, name and value.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "evm/abi.hpp"
#include "evm/signer.hpp"

namespace farmesh::evm {

struct TypedDomain {
  std::string name;
  std::string version;
  std::optional<U256> chain_id;
  std::optional<Address> verifying_contract;
};

struct TypedStruct {
  struct Member {
    std::string type;  // an ABI type without tuples, or the name of the struct in `value`
    std::string name;
    std::variant<AbiValue, std::vector<TypedStruct>> value;  // one struct, or those of "Name[]"
  };

  std::string name;
  std::vector<Member> members;
};

/// "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
std::string encode_type(const TypedStruct& value);

/// Fails with evm_encoding_invalid when a value does not fit its type.
Result<Bytes32> hash_struct(const TypedStruct& value);
Result<Bytes32> domain_separator(const TypedDomain& domain);

/// 0x1901, the domain's separator, the struct's hash.
Result<Bytes> typed_preimage(const TypedDomain& domain, const TypedStruct& value);
Result<Bytes32> typed_digest(const TypedDomain& domain, const TypedStruct& value);

/// What a user signs so that the coordinator can set aside up to `amount` for one request, until
/// `deadline`: contracts/src/InferenceEscrow.sol.
struct Reservation {
  Address user;
  Bytes32 request_id{};
  U256 amount;                 // wei
  std::uint64_t deadline = 0;  // Unix time, seconds
};
TypedStruct typed(const Reservation& reservation);
TypedDomain escrow_domain(std::uint64_t chain_id, const Address& escrow);

/// EIP-2612: `spender` may take `value` of the token from `owner`.
struct Permit {
  Address owner;
  Address spender;
  U256 value;  // wei
  U256 nonce;
  U256 deadline;  // Unix time, seconds
};
TypedStruct typed(const Permit& permit);

}  // namespace farmesh::evm
