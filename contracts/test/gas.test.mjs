// What paying costs, printed a provider; with bounds, so that a change that costs more is noticed.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { idOf, person } from './support/chain.mjs'
import { measuring } from './support/artifacts.mjs'
import { alice, bob, credit, houseForSuite, pay, settler } from './support/house.mjs'
import { Tree } from './support/tree.mjs'

describe('gas', { skip: measuring && 'the build for coverage is not optimised' }, () => {
  const suite = houseForSuite()
  const crowd = (count, name) => Array.from({ length: count }, (_, i) => person(`${name} ${i}`))

  for (const [count, first, again] of [[100, 36_000n, 19_000n], [500, 36_000n, 19_000n]]) {
    test(`of a direct batch of ${count}`, async (t) => {
      const { house } = suite
      await house.deposit(alice, 10n ** 20n)
      const people = crowd(count, 'direct')
      const amount = 17n * 10n ** 15n
      const charges = [credit(alice, amount * BigInt(count))]
      const payments = people.map((someone) => pay(someone, amount))
      const { gas: newcomers } = await house.settle('1', charges, payments)
      const { gas: known } = await house.settle('2', charges, payments)
      const each = [newcomers, known].map((gas) => gas / BigInt(count))
      t.diagnostic(`direct batch of ${count}: ${each[0]} gas a provider paid for the first time ` +
        `(${newcomers} in all), ${each[1]} for one who holds $FAR (${known} in all)`)
      assert.ok(each[0] <= first && each[1] <= again, `${each}`)
    })
  }

  test('of a batch with a hundred payers', async (t) => {
    const { house } = suite
    const payers = crowd(100, 'payer')
    await house.deposit(alice, 10n ** 20n)
    for (const payer of payers) await house.deposit(payer, 10n ** 18n)
    const payments = [pay(bob, 100n * 10n ** 15n)]
    const { gas: one } = await house.settle('1', [credit(alice, 100n * 10n ** 15n)], payments)
    const { gas: many } = await house.settle('2', payers.map((user) => credit(user, 10n ** 15n)), payments)
    const each = (many - one) / 99n
    t.diagnostic(`a payer on credit: ${each} gas`)
    assert.ok(each <= 13_000n, `${each}`)
  })

  test('of a Merkle claim among ten thousand', async (t) => {
    const { house, chain } = suite
    const count = 10_000
    const amount = 17n * 10n ** 15n
    const { address } = bob
    const claimant = crowd(12, 'claimant')
    const payments = Array.from({ length: count }, (_, i) =>
      ({ provider: claimant[i]?.address ?? address, amount }))
    const tree = new Tree(chain.chainId, house.escrow.address, idOf('tree'), payments)
    await house.deposit(alice, tree.total)
    const { gas: funding } = await house.send(settler, 'settleBatchToRoot', idOf('tree'),
      [credit(alice, tree.total)], tree.root, tree.total, 0n)
    const { gas: first } = await house.send(claimant[0], 'claim', [tree.claim(0)])
    const { gas: second } = await house.send(claimant[1], 'claim', [tree.claim(1)])
    const { gas: ten } = await house.send(bob, 'claim',
      Array.from({ length: 10 }, (_, i) => tree.claim(2 + i)))
    t.diagnostic(`Merkle: the payer ${funding} gas for ${count} providers; a claim ${first} gas as the ` +
      `first of its 256 leaves, ${second} later; ${ten / 10n} in a call that carries ten`)
    assert.ok(funding <= 150_000n && first <= 140_000n && second <= 120_000n, `${[funding, first, second]}`)
  })
})
