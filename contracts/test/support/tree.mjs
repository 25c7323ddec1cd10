// The Merkle tree of a batch, as contracts/README.md defines it: pairs are hashed in sorted order,
// and a node without a partner moves up as it is.
import { concat, encodeAbiParameters, keccak256 } from 'viem'

export function leafOf(chainId, escrow, batchId, index, provider, amount) {
  const types = ['uint256', 'address', 'bytes32', 'uint256', 'address', 'uint256']
  const inner = keccak256(encodeAbiParameters(types.map((type) => ({ type })),
    [BigInt(chainId), escrow, batchId, index, provider, amount]))
  return keccak256(inner)
}

const parentOf = (a, b) => keccak256(a.toLowerCase() < b.toLowerCase() ? concat([a, b]) : concat([b, a]))

export class Tree {
  // payments: [{ provider, amount }…]; the leaf of payments[i] has index i.
  constructor(chainId, escrow, batchId, payments) {
    this.batchId = batchId
    this.payments = payments
    this.levels = [payments.map(({ provider, amount }, i) =>
      leafOf(chainId, escrow, batchId, BigInt(i), provider, amount))]
    while (this.levels.at(-1).length > 1) {
      const below = this.levels.at(-1)
      const level = []
      for (let i = 0; i < below.length; i += 2) {
        level.push(i + 1 < below.length ? parentOf(below[i], below[i + 1]) : below[i])
      }
      this.levels.push(level)
    }
  }

  get root() { return this.levels.at(-1)[0] }
  get total() { return this.payments.reduce((sum, { amount }) => sum + amount, 0n) }

  claim(index) {
    const proof = []
    for (let level = 0, at = index; level + 1 < this.levels.length; ++level, at >>= 1) {
      const partner = this.levels[level][at ^ 1]
      if (partner) proof.push(partner)
    }
    return { batchId: this.batchId, index: BigInt(index), ...this.payments[index], proof }
  }
}
