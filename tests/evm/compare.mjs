// Holds src/evm against viem, both ways, over random cases: node compare.mjs PROGRAM [SEED].
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import {
  concat, decodeAbiParameters, encodeAbiParameters, getAddress, hashMessage, hashTypedData,
  keccak256, parseTransaction, recoverMessageAddress, recoverTransactionAddress,
  serializeTransaction,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

const kRounds = 120;
const [program, seedText = '1'] = process.argv.slice(2);

// --- chance, repeatable by its seed --------------------------------------------------------------

let state = Number(seedText) >>> 0;
const chance = () => {  // mulberry32
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};
const below = (n) => Math.floor(chance() * n);
const pick = (list) => list[below(list.length)];
const times = (n, make) => Array.from({ length: n }, make);
const hex = (bytes) => '0x' + times(bytes, () => below(256).toString(16).padStart(2, '0')).join('');
const address = () => getAddress(hex(20));
// Small, large and edge values alike.
const uint = (bits) =>
  pick([0n, 1n, 127n, 128n, 255n, 256n, (1n << BigInt(bits)) - 1n, BigInt(hex(bits / 8))]) %
  (1n << BigInt(bits));
const words = () => times(below(40), () => pick([...'abc XYZ"\\\n0é日😀'])).join('');

// --- the other side ------------------------------------------------------------------------------

const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
const ask = async (question, details) => {
  child.stdin.write(JSON.stringify({ ask: question, ...details }) + '\n');
  const { value, done } = await lines.next();
  assert(!done, `no answer to ${question}`);
  const reply = JSON.parse(value);
  assert(!('error' in reply), `${question} ${JSON.stringify(details)}: ${reply.error}`);
  return reply.answer;
};

// --- random ABI types and values -----------------------------------------------------------------

const abiType = (depth) => {
  const kind = depth > 0 ? below(9) : below(6);
  const name = 'x' + below(1000);
  if (kind === 0) return { name, type: `uint${8 * (1 + below(32))}` };
  if (kind === 1) return { name, type: 'bool' };
  if (kind === 2) return { name, type: 'address' };
  if (kind === 3) return { name, type: `bytes${1 + below(32)}` };
  if (kind === 4) return { name, type: 'bytes' };
  if (kind === 5) return { name, type: 'string' };
  if (kind === 8) {
    return { name, type: 'tuple', components: times(1 + below(3), () => abiType(depth - 1)) };
  }
  const element = abiType(depth - 1);
  return { ...element, type: element.type + (kind === 6 ? '[]' : `[${1 + below(3)}]`) };
};
const spelt = (type) =>
  type.components ? `(${type.components.map(spelt).join(',')})${type.type.slice(5)}` : type.type;

const abiValue = (type) => {
  const array = /^(.*)\[(\d*)\]$/.exec(type.type);
  if (array) {
    const element = { ...type, type: array[1] };
    return times(array[2] === '' ? below(4) : Number(array[2]), () => abiValue(element));
  }
  if (type.type === 'tuple') return type.components.map(abiValue);
  if (type.type.startsWith('uint')) return uint(Number(type.type.slice(4)));
  if (type.type === 'bool') return chance() < 0.5;
  if (type.type === 'address') return address();
  if (type.type === 'string') return words();
  if (type.type === 'bytes') return hex(below(70));
  return hex(Number(type.type.slice(5)));
};
// viem wants objects for tuples whose members have names; without names it takes and gives arrays.
const nameless = (type) => {
  const { name, ...rest } = type;
  return rest.components ? { ...rest, components: rest.components.map(nameless) } : rest;
};
// uint8 to uint48 come back from viem as numbers.
const plain = (value) =>
  Array.isArray(value) ? value.map(plain)
    : typeof value === 'bigint' || typeof value === 'number' ? String(value)
      : value && typeof value === 'object' ? Object.values(value).map(plain) : value;

// --- the comparisons -----------------------------------------------------------------------------

const compareHashes = async () => {
  const data = hex(below(300));
  assert.equal(await ask('keccak', { data }), keccak256(data));
  const some = address();
  assert.equal(await ask('checksum', { address: some.toLowerCase() }), some);
};

const compareMessages = async () => {
  const key = hex(32);
  const account = privateKeyToAccount(key);
  const message = words();
  assert.equal(await ask('address', { key }), account.address);
  const ours = await ask('personal', { key, message });
  const theirs = await account.signMessage({ message });
  assert.equal(ours.digest, hashMessage(message));
  assert.equal(ours.signature, theirs);
  assert.equal(await ask('recover', { message, signature: theirs }), account.address);
  assert.equal(await recoverMessageAddress({ message, signature: ours.signature }),
               account.address);
};

const compareAbi = async () => {
  const types = times(below(5), () => nameless(abiType(3)));
  const values = types.map(abiValue);
  const type = `(${types.map(spelt).join(',')})`;
  const theirs = encodeAbiParameters(types, values);
  assert.equal(await ask('encode', { type, values: plain(values) }), theirs, type);
  assert.deepEqual(await ask('decode', { type, data: theirs }), plain(values));
  if (types.length > 0) assert.deepEqual(plain(decodeAbiParameters(types, theirs)), plain(values));
};

const compareTypedData = async () => {
  const key = hex(32);
  const atoms = ['uint256', 'uint64', 'bool', 'address', 'bytes32', 'bytes', 'string',
                 'uint256[]', 'address[2]', 'string[]'];
  const fields = (prefix) =>
    times(1 + below(4), (_, i) => ({ name: `${prefix}${i}`, type: pick(atoms) }));
  const types = { Inner: fields('i'), Alpha: fields('a') };
  types.Outer = [...fields('o'), { name: 'inner', type: 'Inner' }, { name: 'list', type: 'Alpha[]' }];
  const message = (name) => Object.fromEntries(types[name].map((field) => [
    field.name,
    field.type === 'Inner' ? message('Inner')
      : field.type === 'Alpha[]' ? times(1 + below(3), () => message('Alpha')) : abiValue(field),
  ]));
  const described = (name, value) => ({
    name,
    members: types[name].map((field) => {
      const inner = field.type.replace('[]', '');
      return inner in types
        ? { ...field, structs: [value[field.name]].flat().map((one) => described(inner, one)) }
        : { ...field, value: plain(value[field.name]) };
    }),
  });
  const domain = { name: words(), version: '1' };
  if (chance() < 0.7) domain.chainId = 1 + below(100000);
  if (chance() < 0.7) domain.verifyingContract = address();
  const value = message('Outer');
  const typed = { domain, types, primaryType: 'Outer', message: value };
  const told = { ...domain };
  if (told.chainId) told.chainId = String(told.chainId);
  const ours = await ask('typed', { key, domain: told, struct: described('Outer', value) });
  assert.equal(ours.digest, hashTypedData(typed));
  assert.equal(ours.signature, await privateKeyToAccount(key).signTypedData(typed));
};

const randomTransaction = () => {
  const legacy = chance() < 0.3;
  const priority = legacy ? 0n : uint(40);
  const transaction = {
    type: legacy ? 'legacy' : 'eip1559',
    chainId: pick([1, 56, 97, 31337, 4294967295]),
    nonce: pick([0, 1, 127, 128, 100000]),
    gas: BigInt(21000 + below(1000000)),
    value: uint(96),
    data: pick(['0x', hex(below(200))]),
    accessList: legacy ? [] : times(below(3), () => ({
      address: address().toLowerCase(), storageKeys: times(below(3), () => hex(32)),
    })),
  };
  transaction.maxFeePerGas = priority + uint(40);
  transaction.maxPriorityFeePerGas = priority;
  if (chance() < 0.8) transaction.to = address();
  return transaction;
};
const forViem = ({ maxFeePerGas, maxPriorityFeePerGas, accessList, ...rest }) =>
  rest.type === 'legacy' ? { ...rest, gasPrice: maxFeePerGas }
    : { ...rest, maxFeePerGas, maxPriorityFeePerGas, accessList };

const compareTransactions = async () => {
  const key = hex(32);
  const account = privateKeyToAccount(key);
  const transaction = randomTransaction();
  const told = {
    ...transaction, gas: Number(transaction.gas), value: String(transaction.value),
    maxFeePerGas: String(transaction.maxFeePerGas),
    maxPriorityFeePerGas: String(transaction.maxPriorityFeePerGas),
  };
  const theirs = await account.signTransaction(forViem(transaction));
  const ours = await ask('sign', { key, transaction: told });
  assert.equal(ours.raw, theirs);
  assert.equal(ours.hash, keccak256(theirs));
  const decoded = await ask('transaction', { raw: theirs });
  assert.equal(decoded.sender, account.address);
  assert.equal(decoded.hash, keccak256(theirs));
  decoded.transaction.accessList.forEach((entry) => { entry.address = entry.address.toLowerCase(); });
  assert.deepEqual(decoded.transaction, told);
  // Ours, read by viem.
  assert.equal(await recoverTransactionAddress({ serializedTransaction: ours.raw }),
               account.address);
  const parsed = parseTransaction(ours.raw);
  const { r, s, v, yParity, ...unsigned } = parsed;
  assert.equal(serializeTransaction(unsigned, { r, s, v, yParity }), ours.raw);
};

const compareMerkle = async () => {
  const components = [{ type: 'uint256' }, { type: 'address' }, { type: 'uint256' }];
  const leaves = times(1 + below(12), () => [uint(256), address(), uint(96)]);
  const type = '(uint256,address,uint256)';
  const { root, proofs } = await ask('merkle', { type, leaves: plain(leaves) });
  // What OpenZeppelin's MerkleProof does.
  const join = (a, b) => keccak256(BigInt(a) < BigInt(b) ? concat([a, b]) : concat([b, a]));
  leaves.forEach((values, i) => {
    const leaf = keccak256(keccak256(encodeAbiParameters(components, values)));
    assert.equal(proofs[i].reduce(join, leaf), root);
  });
};

const comparisons = {
  compareHashes, compareMessages, compareAbi, compareTypedData, compareTransactions, compareMerkle,
};
let done = 0;
for (const [name, compare] of Object.entries(comparisons)) {
  for (let round = 0; round < kRounds; ++round, ++done) {
    const before = state;
    try {
      await compare();
    } catch (failure) {
      console.error(`${name}, round ${round}, chance at ${before}:`);
      throw failure;
    }
  }
}
child.stdin.end();
console.log(`${done} cases with seed ${seedText}: equal to viem's`);
