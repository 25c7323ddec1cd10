import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { concat, keccak256 } from 'viem'
import { idOf, person, ZERO, ZERO_ID } from './support/chain.mjs'
import { admin, alice, bob, credit, houseForSuite, mallory, nodes, pauser, settler } from
  './support/house.mjs'
import { leafOf, Tree } from './support/tree.mjs'

// A funded tree of `count` providers who earned 1, 2, 3… units.
async function fund(house, count, { batch = 'tree', total, people } = {}) {
  const providers = people ?? Array.from({ length: count }, (_, i) => person(`provider ${i}`))
  const payments = providers.map(({ address }, i) => ({ provider: address, amount: BigInt(i + 1) }))
  const tree = new Tree(house.chain.chainId, house.escrow.address, idOf(batch), payments)
  const sum = total ?? tree.total
  await house.deposit(alice, sum)
  await house.send(settler, 'settleBatchToRoot', idOf(batch), [credit(alice, sum)], tree.root, sum, 0n)
  return { tree, providers }
}

describe('claims', () => {
  const suite = houseForSuite()
  const refuses = (error, claim) => suite.house.refuses(error, mallory, 'claim', [claim])

  for (const count of [1, 2, 3, 5, 8, 13]) {
    test(`${count} providers claim what is theirs, each once`, async () => {
      const { house } = suite
      const { tree, providers } = await fund(house, count)
      for (const [i, provider] of providers.entries()) {
        assert.equal(await house.read('isClaimed', tree.batchId, BigInt(i)), false)
        await house.send(provider, 'claim', [tree.claim(i)])
        assert.equal(await house.tokensOf(provider), BigInt(i + 1))
        assert.equal(await house.read('isClaimed', tree.batchId, BigInt(i)), true)
        await refuses('AlreadyClaimed', tree.claim(i))
      }
      assert.equal((await house.read('batchOf', tree.batchId)).unclaimed, 0n)
      assert.equal(await house.read('owed'), 0n)
    })
  }

  test('anybody may carry claims for others, several and of several batches at once', async () => {
    const { house } = suite
    const first = await fund(house, 4, { batch: 'week 1' })
    const second = await fund(house, 4, { batch: 'week 2' })
    await house.send(bob, 'claim', [first.tree.claim(3), second.tree.claim(3), first.tree.claim(0)])
    assert.equal(await house.tokensOf(first.providers[3]), 8n)
    assert.equal(await house.tokensOf(first.providers[0]), 1n)
    await refuses('AlreadyClaimed', second.tree.claim(3))
  })

  test('a claim is refused whole when one of its leaves is', async () => {
    const { house } = suite
    const { tree, providers } = await fund(house, 3)
    await assert.rejects(house.send(bob, 'claim', [tree.claim(0), tree.claim(0)]),
      { errorName: 'AlreadyClaimed' })
    assert.equal(await house.tokensOf(providers[0]), 0n)
  })

  test('any other amount, provider, index, batch or proof is refused', async () => {
    const { house } = suite
    const { tree } = await fund(house, 5)
    await fund(house, 5, { batch: 'other', people: nodes.concat(alice, bob) })
    const good = tree.claim(2)
    await refuses('BadProof', { ...good, amount: 4n })
    await refuses('BadProof', { ...good, provider: mallory.address })
    await refuses('BadProof', { ...good, index: 3n })
    await refuses('BadProof', { ...good, index: 2n + 256n })
    await refuses('BadProof', { ...good, batchId: idOf('other') })
    await refuses('BadProof', { ...good, batchId: idOf('never funded') })
    await refuses('BadProof', { ...good, proof: [] })
    await refuses('BadProof', { ...good, proof: good.proof.concat(ZERO_ID) })
    await refuses('BadProof', { ...good, proof: [...good.proof].reverse() })
    await house.send(bob, 'claim', [good])
  })

  test('a leaf is good for one chain and one escrow only', async () => {
    const { house } = suite
    const payments = [{ provider: bob.address, amount: 5n }]
    await house.deposit(alice, 10n)
    for (const [batch, chainId, escrow] of [['chain', 56, house.escrow.address],
      ['escrow', house.chain.chainId, mallory.address]]) {
      const tree = new Tree(chainId, escrow, idOf(batch), payments)
      await house.send(settler, 'settleBatchToRoot', idOf(batch), [credit(alice, 5n)], tree.root, 5n, 0n)
      await refuses('BadProof', tree.claim(0))
    }
  })

  test('an inner node cannot pass for a leaf, for leaves are hashed twice', async () => {
    const { house } = suite
    const { tree } = await fund(house, 4)
    const { batchId, index, provider, amount } = tree.claim(0)
    const leaf = leafOf(house.chain.chainId, house.escrow.address, batchId, index, provider, amount)
    assert.equal(await house.read('leafOf', batchId, index, provider, amount), leaf)
    const [left, right] = tree.levels[1]
    assert.equal(tree.root, keccak256(left < right ? concat([left, right]) : concat([right, left])))
    assert.ok(tree.levels[0].includes(leaf))
  })

  test('a tree that promises more than was funded spends its own batch only', async () => {
    const { house } = suite
    const { tree } = await fund(house, 3, { batch: 'short', total: 5n }) // promises 6
    await fund(house, 3, { batch: 'sound' })
    await house.send(bob, 'claim', [tree.claim(2), tree.claim(1)])
    await refuses('RootExhausted', tree.claim(0))
    assert.equal((await house.read('batchOf', idOf('sound'))).unclaimed, 6n)
  })

  test('an unbalanced, empty or rootless tree is not funded', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const refused = (error, charge, root, total) => house.refuses(error, settler,
      'settleBatchToRoot', idOf('t'), [credit(alice, charge)], root, total, 0n)
    await refused('UnbalancedBatch', 10n, idOf('root'), 11n)
    await refused('UnbalancedBatch', 10n, idOf('root'), 9n)
    await refused('ZeroAmount', 10n, idOf('root'), 0n)
    await refused('ZeroId', 10n, ZERO_ID, 10n)
  })

  test('an impossible recipient stays unpaid without harm to the others', async () => {
    const { house } = suite
    const people = [{ address: ZERO }, { address: house.escrow.address }, bob]
    const { tree } = await fund(house, 3, { people })
    await refuses('BadRecipient', tree.claim(0))
    await refuses('BadRecipient', tree.claim(1))
    await house.send(bob, 'claim', [tree.claim(2)])
  })

  test('claims stay open while the escrow is paused', async () => {
    const { house } = suite
    const { tree, providers } = await fund(house, 2)
    await house.send(pauser, 'pause')
    await house.send(providers[0], 'claim', [tree.claim(0)])
  })
})

describe('claims by recipients the token refuses', () => {
  const suite = houseForSuite('PickyToken')

  test('wait in claimable, where their owner can send them elsewhere', async () => {
    const { house } = suite
    const { tree, providers } = await fund(house, 2)
    await house.send(admin, 'token.setMood', providers[1].address, 1)
    await house.send(bob, 'claim', [tree.claim(0), tree.claim(1)])
    assert.equal(await house.read('claimable', providers[1].address), 2n)
    await house.send(providers[1], 'withdrawClaimable', bob.address)
    assert.equal(await house.tokensOf(bob), 2n)
  })
})
