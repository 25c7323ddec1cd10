import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { idOf, kDay, ZERO_ID } from './support/chain.mjs'
import { admin, alice, bob, credit, houseForSuite, mallory, nodes, pay, pauser, reserved,
  settler } from './support/house.mjs'

const kHour = 3600n
const State = { none: 0, open: 1, authorized: 2, closed: 3 }

describe('reservations', () => {
  const suite = houseForSuite()
  const request = idOf('request 1')
  const stateOf = async (user, id = request) =>
    (await suite.house.read('reservationOf', user.address, id)).state

  test('lock the signed amount until the signed deadline', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const deadline = await house.reserve(alice, request, 40n)
    assert.equal(await house.balanceOf(alice), 60n)
    assert.deepEqual({ ...await house.read('reservationOf', alice.address, request) },
      { amount: 40n, deadline, state: State.open })
  })

  test('open only with the user\'s signature over exactly this, here', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    const deadline = await chain.now() + kDay
    const signed = [alice, request, 40n, deadline]
    const good = await house.sign(...signed)
    const open = (user, id, amount, until, signature) => house.refuses('BadSignature', settler,
      'openReservation', user.address, id, amount, until, signature)
    await house.deposit(mallory, 100n)
    await open(mallory, request, 40n, deadline, good)
    await open(alice, idOf('another'), 40n, deadline, good)
    await open(alice, request, 41n, deadline, good)
    await open(alice, request, 40n, deadline + 1n, good)
    await open(...signed, await house.sign(...signed, mallory))
    await open(...signed, await house.sign(...signed, alice, { chainId: 56 }))
    await open(...signed, await house.sign(...signed, alice, { verifyingContract: bob.address }))
    await open(...signed, `${good.slice(0, -2)}ff`)
    await open(...signed, '0x')
    await house.send(settler, 'openReservation', alice.address, request, 40n, deadline, good)
  })

  test('nobody can take another\'s request id: the key holds the user', async () => {
    const { house } = suite
    await house.deposit(alice, 10n)
    await house.deposit(mallory, 10n)
    await house.reserve(mallory, request, 10n)
    await house.reserve(alice, request, 10n)
  })

  test('only the settler opens them, or a user could hide what he spent on credit', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    const deadline = await chain.now() + kDay
    const args = [alice.address, request, 100n, deadline,
      await house.sign(alice, request, 100n, deadline)]
    await house.refuses('AccessControlUnauthorizedAccount', alice, 'openReservation', ...args)
    await house.refuses('AccessControlUnauthorizedAccount', mallory, 'openReservation', ...args)
    await house.settle('credit', [credit(alice, 100n)], [pay(nodes[0], 100n)])
  })

  test('cannot be opened twice, nor be empty, nameless, uncovered, past or too far ahead', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    const now = await chain.now()
    const refused = async (error, id, amount, deadline) => house.refuses(error, settler,
      'openReservation', alice.address, id, amount, deadline,
      await house.sign(alice, id, amount, deadline))
    await refused('ZeroId', ZERO_ID, 1n, now + kDay)
    await refused('ZeroAmount', request, 0n, now + kDay)
    await refused('InsufficientBalance', request, 101n, now + kDay)
    await refused('DeadlineOutOfRange', request, 1n, now)
    await refused('DeadlineOutOfRange', request, 1n, now + 31n * kDay)
    await house.reserve(alice, request, 1n)
    await refused('BadReservationState', request, 1n, now + kDay)
  })

  test('a contract wallet signs by ERC-1271', async () => {
    const { house, chain } = suite
    const wallet = await chain.deploy(alice, 'ContractWallet', [alice.address])
    await house.send(admin, 'token.approve', house.escrow.address, 10n)
    await house.send(admin, 'depositFor', wallet.address, 10n)
    const deadline = await chain.now() + kDay
    const open = async (signer) => [wallet.address, request, 10n, deadline,
      await house.sign(wallet, request, 10n, deadline, signer)]
    await house.refuses('BadSignature', settler, 'openReservation', ...await open(mallory))
    await house.send(settler, 'openReservation', ...await open(alice))
    assert.equal(await stateOf(wallet), State.open)
  })

  test('settle once, with the excess returned', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    const { events } = await house.settle('b', [reserved(alice, request, 25n)],
      [pay(nodes[0], 10n), pay(nodes[1], 15n)])
    const { args } = events.find(({ eventName }) => eventName === 'Charged')
    assert.equal(args.returned, 15n)
    assert.equal(await house.balanceOf(alice), 75n)
    assert.equal(await house.tokensOf(nodes[1]), 15n)
    await house.refuses('BadReservationState', settler, 'settleBatch', idOf('c'),
      [reserved(alice, request, 1n)], [pay(nodes[0], 1n)], 0n)
  })

  test('a failed request is refunded whole, by a charge of zero', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.settle('refund', [reserved(alice, request, 0n)], [])
    assert.equal(await house.balanceOf(alice), 100n)
    assert.equal(await stateOf(alice), State.closed)
  })

  test('never cost more than was signed, nor exist before they are opened', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const charge = (amount) => [idOf('b'), [reserved(alice, request, amount)], [pay(nodes[0], amount)], 0n]
    await house.refuses('BadReservationState', settler, 'settleBatch', ...charge(1n))
    await house.reserve(alice, request, 40n)
    await house.refuses('InsufficientBalance', settler, 'settleBatch', ...charge(41n))
  })

  test('from the deadline on, anybody may return them to their user, and nobody may settle', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.refuses('NotYetReclaimable', alice, 'reclaimReservation', alice.address, request)
    await chain.skip(kDay)
    await house.refuses('DeadlinePassed', settler, 'settleBatch', idOf('b'),
      [reserved(alice, request, 1n)], [pay(nodes[0], 1n)], 0n)
    await house.refuses('DeadlinePassed', settler, 'authorizeSettlements',
      [reserved(alice, request, 1n)])
    await house.send(bob, 'reclaimReservation', alice.address, request)
    assert.equal(await house.balanceOf(alice), 100n)
    await house.refuses('BadReservationState', bob, 'reclaimReservation', alice.address, request)
    await house.refuses('BadReservationState', bob, 'reclaimReservation', alice.address, idOf('none'))
  })

  test('an expired reservation is withdrawn without a second notice when the user asked before', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 100n, 9n * kDay)
    await house.send(alice, 'requestWithdrawal', 100n)
    await chain.skip(9n * kDay)
    await house.send(alice, 'reclaimReservation', alice.address, request)
    await house.send(alice, 'withdraw', alice.address, 100n)
  })

  test('cancelling gives no free answer: an hour is left to settle what was served', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.send(alice, 'cancelReservation', request)
    await house.refuses('NotYetReclaimable', alice, 'reclaimReservation', alice.address, request)
    const state = await chain.snapshot()
    await house.settle('served', [reserved(alice, request, 30n)], [pay(nodes[0], 30n)])
    assert.equal(await house.balanceOf(alice), 70n)
    await chain.restore(state)
    await chain.skip(kHour)
    await house.send(alice, 'reclaimReservation', alice.address, request)
    assert.equal(await house.balanceOf(alice), 100n)
  })

  test('cancelling never moves a deadline back', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    const deadline = await house.reserve(alice, request, 40n, 60n)
    await house.send(alice, 'cancelReservation', request)
    assert.equal((await house.read('reservationOf', alice.address, request)).deadline, deadline)
  })

  test('once the settlement is authorised there is no cancelling, and the rest is back at once', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.send(settler, 'authorizeSettlements', [reserved(alice, request, 25n)])
    assert.equal(await house.balanceOf(alice), 75n)
    await house.refuses('BadReservationState', alice, 'cancelReservation', request)
    await chain.skip(10n * kDay) // long past the deadline the user signed
    await house.refuses('NotYetReclaimable', alice, 'reclaimReservation', alice.address, request)
    await house.refuses('InsufficientBalance', settler, 'settleBatch', idOf('b'),
      [reserved(alice, request, 26n)], [pay(nodes[0], 26n)], 0n)
    await house.settle('b', [reserved(alice, request, 25n)], [pay(nodes[0], 25n)])
    assert.equal(await house.tokensOf(nodes[0]), 25n)
  })

  test('an authorised settlement that never comes gives the money back', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.send(settler, 'authorizeSettlements', [reserved(alice, request, 25n)])
    await chain.skip(15n * kDay)
    await house.send(alice, 'reclaimReservation', alice.address, request)
    assert.equal(await house.balanceOf(alice), 100n)
  })

  test('an authorisation is the settler\'s, once, for an open reservation and a real cost', async () => {
    const { house } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    const refused = (error, from, charge) =>
      house.refuses(error, from, 'authorizeSettlements', [charge])
    await refused('AccessControlUnauthorizedAccount', alice, reserved(alice, request, 1n))
    await refused('NotAReservation', settler, credit(alice, 1n))
    await refused('ZeroAmount', settler, reserved(alice, request, 0n))
    await refused('InsufficientBalance', settler, reserved(alice, request, 41n))
    await refused('BadReservationState', settler, reserved(bob, request, 1n))
    await house.send(settler, 'authorizeSettlements', [reserved(alice, request, 40n)])
    await refused('BadReservationState', settler, reserved(alice, request, 40n))
  })

  test('a signature that was not used yet can be revoked for good', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    const deadline = await chain.now() + kDay
    const signature = await house.sign(alice, request, 40n, deadline)
    await house.send(alice, 'cancelReservation', request)
    await house.refuses('BadReservationState', settler, 'openReservation', alice.address, request, 40n,
      deadline, signature)
    await house.refuses('BadReservationState', alice, 'cancelReservation', request)
    await house.refuses('ZeroId', alice, 'cancelReservation', ZERO_ID)
  })

  test('a pause stops opening and authorising, not reclaiming', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.reserve(alice, request, 40n)
    await house.send(pauser, 'pause')
    const deadline = await chain.now() + kDay
    await house.refuses('EnforcedPause', settler, 'openReservation', alice.address, idOf('r2'), 1n,
      deadline, await house.sign(alice, idOf('r2'), 1n, deadline))
    await house.refuses('EnforcedPause', settler, 'authorizeSettlements', [reserved(alice, request, 1n)])
    await chain.skip(kDay)
    await house.send(alice, 'reclaimReservation', alice.address, request)
  })

  test('the digest a wallet signs is the one the contract checks', async () => {
    const { house, chain } = suite
    const deadline = await chain.now() + kDay
    const digest = await house.read('hashReservation', alice.address, request, 40n, deadline)
    assert.equal(await alice.sign({ hash: digest }), await house.sign(alice, request, 40n, deadline))
  })
})
