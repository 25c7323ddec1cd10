import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { encodeFunctionData } from 'viem'
import { far, idOf, kDay, person, ZERO, ZERO_ID } from './support/chain.mjs'
import { admin, alice, bob, credit, houseForSuite, mallory, nodes, pay, pauser, reserved,
  settler } from './support/house.mjs'

const Mood = { reverts: 1, saysFalse: 2, burnsGas: 3, returnsMuch: 4, saysNothing: 5, saysTwo: 6,
  reenters: 7 }

describe('settlement', () => {
  const suite = houseForSuite()
  const refusesBatch = (error, charges, payments, fee = 0n, batch = 'refused') =>
    suite.house.refuses(error, settler, 'settleBatch', idOf(batch), charges, payments, fee)

  test('the published example: 512 tokens at 0.0001 over three nodes', async () => {
    const { house } = suite
    await house.deposit(alice, far('1'))
    const shares = ['0.0170', '0.0171', '0.0171'].map(far)
    await house.settle('example', [credit(alice, far('0.0512'))],
      nodes.map((node, i) => pay(node, shares[i])))
    assert.equal(await house.balanceOf(alice), far('0.9488'))
    const paid = await Promise.all(nodes.map((node) => house.tokensOf(node)))
    assert.deepEqual(paid, shares)
    assert.equal(paid.reduce((sum, amount) => sum + amount), far('0.0512'))
  })

  test('charges many users, on credit and from reservations, and pays many providers', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.deposit(bob, 100n)
    await house.reserve(bob, idOf('r1'), 50n)
    await house.reserve(bob, idOf('r2'), 20n)
    const { events } = await house.settle('mixed',
      [credit(alice, 30n), credit(alice, 5n), reserved(bob, idOf('r1'), 45n),
        reserved(bob, idOf('r2'), 20n)],
      [pay(nodes[0], 60n), pay(nodes[1], 40n)])
    assert.equal(await house.balanceOf(alice), 65n)
    assert.equal(await house.balanceOf(bob), 35n)
    assert.deepEqual(events.filter(({ contract }) => contract === 'InferenceEscrow')
      .map(({ eventName }) => eventName),
      ['Charged', 'Charged', 'Charged', 'Charged', 'Paid', 'Paid', 'BatchSettled'])
    const { args } = events.at(-1)
    assert.deepEqual({ ...args }, { batchId: idOf('mixed'), charged: 100n, earned: 100n, fee: 0n })
  })

  test('a batch is settled once, whatever it says the second time', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.settle('week 1', [credit(alice, 10n)], [pay(nodes[0], 10n)])
    await refusesBatch('BatchAlreadySettled', [credit(alice, 10n)], [pay(nodes[0], 10n)], 0n, 'week 1')
    await refusesBatch('BatchAlreadySettled', [credit(alice, 5n)], [pay(nodes[1], 5n)], 0n, 'week 1')
    await house.refuses('BatchAlreadySettled', settler, 'settleBatchToRoot', idOf('week 1'),
      [credit(alice, 5n)], idOf('root'), 5n, 0n)
    const { settledBlock, root } = await house.read('batchOf', idOf('week 1'))
    assert.ok(settledBlock > 0n)
    assert.equal(root, ZERO_ID)
    assert.equal((await house.read('batchOf', idOf('week 2'))).settledBlock, 0n)
  })

  test('a refused batch changes nothing, and its id stays free', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await refusesBatch('UnbalancedBatch', [credit(alice, 10n)], [pay(nodes[0], 11n)], 0n, 'retry')
    await assert.rejects(house.settle('retry', [credit(alice, 10n)], [pay(nodes[0], 9n)]),
      { errorName: 'UnbalancedBatch' })
    assert.equal(await house.balanceOf(alice), 100n)
    await house.settle('retry', [credit(alice, 10n)], [pay(nodes[0], 10n)])
  })

  test('sums that do not meet, empty lines and impossible recipients are refused', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const ten = [credit(alice, 10n)]
    await refusesBatch('UnbalancedBatch', ten, [])
    await refusesBatch('UnbalancedBatch', [], [pay(nodes[0], 1n)])
    await refusesBatch('ZeroAmount', [credit(alice, 0n)], [])
    await refusesBatch('ZeroAmount', ten, [pay(nodes[0], 10n), pay(nodes[1], 0n)])
    await refusesBatch('BadRecipient', ten, [pay({ address: ZERO }, 10n)])
    await refusesBatch('BadRecipient', ten, [pay(house.escrow, 10n)])
    await house.refuses('ZeroId', settler, 'settleBatch', ZERO_ID, ten, [pay(nodes[0], 10n)], 0n)
  })

  test('a user pays no more than he has, and amounts never wrap around', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await refusesBatch('InsufficientBalance', [credit(alice, 101n)], [pay(nodes[0], 101n)])
    await refusesBatch('InsufficientBalance', [credit(alice, 60n), credit(alice, 60n)],
      [pay(nodes[0], 120n)])
    await refusesBatch('InsufficientBalance', [credit(mallory, 1n)], [pay(nodes[0], 1n)])
    const huge = 2n ** 256n - 1n
    await refusesBatch('InsufficientBalance', [credit(alice, huge)], [pay(nodes[0], huge)])
    await refusesBatch('InsufficientBalance', [credit(alice, 2n ** 96n)], [pay(nodes[0], 2n ** 96n)])
    await refusesBatch('FeeTooHigh', [credit(alice, 10n)], [pay(nodes[0], 10n)], huge)
  })

  test('is the settler\'s alone, and stops while paused', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const batch = [idOf('b'), [credit(alice, 1n)], [pay(mallory, 1n)], 0n]
    const toRoot = [idOf('b'), [credit(alice, 1n)], idOf('root'), 1n, 0n]
    for (const from of [mallory, admin, pauser, alice]) {
      await house.refuses('AccessControlUnauthorizedAccount', from, 'settleBatch', ...batch)
      await house.refuses('AccessControlUnauthorizedAccount', from, 'settleBatchToRoot', ...toRoot)
    }
    await house.send(pauser, 'pause')
    await house.refuses('EnforcedPause', settler, 'settleBatch', ...batch)
    await house.refuses('EnforcedPause', settler, 'settleBatchToRoot', ...toRoot)
    await house.send(pauser, 'unpause')
    await house.send(settler, 'settleBatch', ...batch)
  })

  test('a fee is a line of its own, within the admin\'s bound, and waits for its recipient', async () => {
    const { house } = suite
    await house.deposit(alice, 1000n)
    await refusesBatch('FeeTooHigh', [credit(alice, 100n)], [pay(nodes[0], 99n)], 1n)
    await house.send(admin, 'setFee', bob.address, 500n)
    await refusesBatch('FeeTooHigh', [credit(alice, 100n)], [pay(nodes[0], 94n)], 6n)
    const { events } = await house.settle('with fee', [credit(alice, 100n)], [pay(nodes[0], 95n)], 5n)
    assert.ok(events.some(({ eventName }) => eventName === 'FeeCharged'))
    assert.equal(await house.read('claimable', bob.address), 5n)
    await house.send(bob, 'withdrawClaimable', bob.address)
    assert.equal(await house.tokensOf(bob), 5n)
    await house.refuses('ZeroAmount', bob, 'withdrawClaimable', bob.address)
  })

  test('a day\'s charges stay below the limit, and a new day starts afresh', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 1000n)
    await house.send(admin, 'setDailyLimit', 100n)
    await chain.skip(kDay - (await chain.now() % kDay) + 60n) // a minute into a day
    await house.settle('1', [credit(alice, 70n)], [pay(nodes[0], 70n)])
    await refusesBatch('DailyLimitExceeded', [credit(alice, 31n)], [pay(nodes[0], 31n)])
    assert.deepEqual(await house.read('dailyLimit'), [100n, 30n])
    await house.settle('2', [credit(alice, 30n)], [pay(nodes[0], 30n)])
    await house.send(admin, 'setDailyLimit', 50n)
    assert.deepEqual(await house.read('dailyLimit'), [50n, 0n])
    await house.send(admin, 'setDailyLimit', 120n)
    assert.deepEqual(await house.read('dailyLimit'), [120n, 20n])
    await chain.skip(kDay)
    await house.settle('3', [credit(alice, 120n)], [pay(nodes[0], 120n)])
  })
})

describe('settlement towards bad recipients', () => {
  const suite = houseForSuite('PickyToken')
  const mood = (who, value) => suite.house.send(admin, 'token.setMood', who.address, value)

  for (const [name, value] of Object.entries(Mood).slice(0, 4).concat([['saysTwo', Mood.saysTwo]])) {
    test(`one for whom the token ${name} does not block the others`, async () => {
      const { house } = suite
      await house.deposit(alice, 100n)
      await mood(mallory, value)
      const { events } = await house.settle('b', [credit(alice, 60n)],
        [pay(nodes[0], 10n), pay(mallory, 20n), pay(nodes[1], 30n)])
      assert.equal(await house.tokensOf(nodes[0]), 10n)
      assert.equal(await house.tokensOf(nodes[1]), 30n)
      assert.equal(await house.read('claimable', mallory.address), 20n)
      assert.ok(events.some(({ eventName }) => eventName === 'PaymentDeferred'))
      await assert.rejects(house.send(mallory, 'withdrawClaimable', mallory.address))
      await house.send(mallory, 'withdrawClaimable', bob.address)
      assert.equal(await house.tokensOf(bob), 20n)
    })
  }

  test('a token that answers nothing has paid', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await mood(nodes[0], Mood.saysNothing)
    await house.settle('b', [credit(alice, 60n)], [pay(nodes[0], 60n)])
    assert.equal(await house.tokensOf(nodes[0]), 60n)
    assert.equal(await house.read('claimable', nodes[0].address), 0n)
  })

  test('a stingy gas limit stops the batch instead of deferring pay', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.chain.refuses('GasTooLow', settler, house.escrow, 'settleBatch',
      [idOf('b'), [credit(alice, 60n)], [pay(nodes[0], 60n)], 0n], 200_000n)
  })

  test('a recipient who calls back finds every door closed', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await mood(mallory, Mood.reenters)
    const doors = [
      ['claim', [[]]], ['withdrawClaimable', [mallory.address]], ['withdraw', [mallory.address, 1n]],
      ['deposit', [1n]], ['reclaimReservation', [alice.address, idOf('r')]],
      ['settleBatch', [idOf('again'), [credit(alice, 1n)], [pay(mallory, 1n)], 0n]],
    ]
    for (const [functionName, args] of doors) {
      const input = encodeFunctionData({ abi: house.escrow.abi, functionName, args })
      await house.send(admin, 'token.setPayload', input)
      await house.settle(functionName, [credit(alice, 1n)], [pay(mallory, 1n)])
      assert.equal(await house.read('token.reentered'), false, functionName)
    }
  })

  test('a token that keeps a toll credits what arrived', async () => {
    const { house } = suite
    await house.send(admin, 'token.setToll', 100n)
    await house.deposit(alice, 1000n)
    assert.equal(await house.balanceOf(alice), 990n)
  })

  test('five hundred payments outlive fifty bad recipients', async () => {
    const { house } = suite
    await house.deposit(alice, 500n)
    const people = Array.from({ length: 500 }, (_, i) => person(`crowd ${i}`))
    for (let i = 0; i < 500; i += 10) await mood(people[i], i % 20 ? Mood.burnsGas : Mood.reverts)
    await house.settle('crowd', [credit(alice, 500n)], people.map((someone) => pay(someone, 1n)))
    const deferred = await house.chain.readAll(people.map(({ address }) =>
      [house.escrow, 'claimable', [address]]))
    assert.equal(deferred.filter((amount) => amount === 1n).length, 50)
  })
})
