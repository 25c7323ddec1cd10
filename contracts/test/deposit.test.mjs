import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseSignature } from 'viem'
import { far, idOf, kDay, kNotice, ZERO } from './support/chain.mjs'
import { admin, alice, bob, credit, houseForSuite, kAdminDelay, mallory, nodes, pay, pauser,
  settler } from './support/house.mjs'

const kMax96 = 2n ** 96n - 1n

describe('deposits', () => {
  const suite = houseForSuite()

  async function permit(owner, value, deadline, signer = owner) {
    const { house, chain } = suite
    const fields = { owner: 'address', spender: 'address', value: 'uint256', nonce: 'uint256',
      deadline: 'uint256' }
    const signature = await signer.signTypedData({
      domain: { name: 'Far', version: '1', chainId: chain.chainId,
        verifyingContract: house.token.address },
      types: { Permit: Object.entries(fields).map(([name, type]) => ({ name, type })) },
      primaryType: 'Permit',
      message: { owner: owner.address, spender: house.escrow.address, value, nonce: 0n, deadline },
    })
    const { r, s, yParity } = parseSignature(signature)
    return [27 + yParity, r, s]
  }

  test('a deposit becomes the balance, and says so', async () => {
    const { house } = suite
    const { events } = await house.deposit(alice, far('5'))
    assert.equal(await house.balanceOf(alice), far('5'))
    const { args } = events.find(({ eventName }) => eventName === 'Deposited')
    assert.deepEqual({ ...args }, { user: alice.address, from: alice.address, amount: far('5') })
  })

  test('somebody else may pay in for a user', async () => {
    const { house } = suite
    await house.send(admin, 'token.approve', house.escrow.address, 7n)
    await house.send(admin, 'depositFor', bob.address, 7n)
    assert.equal(await house.balanceOf(bob), 7n)
    assert.equal(await house.balanceOf(admin), 0n)
  })

  test('nothing, nobody and money one does not have are refused', async () => {
    const { house } = suite
    await house.refuses('ZeroAmount', alice, 'deposit', 0n)
    await house.refuses('ZeroAddress', alice, 'depositFor', ZERO, 1n)
    await house.refuses('ERC20InsufficientAllowance', alice, 'deposit', 1n)
  })

  test('a permit and its deposit are one transaction', async () => {
    const { house, chain } = suite
    await house.send(admin, 'token.transfer', alice.address, 9n)
    const deadline = await chain.now() + 600n
    const signature = await permit(alice, 9n, deadline)
    await house.send(alice, 'depositWithPermit', 9n, deadline, ...signature)
    assert.equal(await house.balanceOf(alice), 9n)
  })

  test('a permit that a stranger used up first does not stop the deposit', async () => {
    const { house, chain } = suite
    await house.send(admin, 'token.transfer', alice.address, 9n)
    const deadline = await chain.now() + 600n
    const signature = await permit(alice, 9n, deadline)
    await house.send(mallory, 'token.permit', alice.address, house.escrow.address, 9n, deadline,
      ...signature)
    await house.send(alice, 'depositWithPermit', 9n, deadline, ...signature)
    assert.equal(await house.balanceOf(alice), 9n)
  })

  test('a forged permit moves nothing', async () => {
    const { house, chain } = suite
    await house.send(admin, 'token.transfer', alice.address, 9n)
    const deadline = await chain.now() + 600n
    const forged = await permit(alice, 9n, deadline, mallory)
    await house.refuses('ERC20InsufficientAllowance', alice, 'depositWithPermit', 9n, deadline, ...forged)
  })

  test('an escrow needs a token with code and a sensible notice', async () => {
    const { chain, house } = suite
    const refused = (error, ...args) => assert.rejects(
      chain.deploy(admin, 'InferenceEscrow', args), { errorName: error })
    await refused('ZeroAddress', bob.address, admin.address, kAdminDelay, kNotice)
    await refused('NoticeOutOfRange', house.token.address, admin.address, kAdminDelay, 3599n)
    await refused('NoticeOutOfRange', house.token.address, admin.address, kAdminDelay, 30n * kDay + 1n)
  })
})

describe('withdrawals', () => {
  const suite = houseForSuite()
  const withdrawable = (user) => suite.house.read('accountOf', user.address)

  test('take a request and its notice, and then go where the user says', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 1n)
    await house.send(alice, 'requestWithdrawal', 60n)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 60n)
    await chain.skip(kNotice)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 61n)
    await house.refuses('ZeroAmount', alice, 'withdraw', alice.address, 0n)
    await house.refuses('BadRecipient', alice, 'withdraw', ZERO, 60n)
    await house.refuses('BadRecipient', alice, 'withdraw', house.escrow.address, 60n)
    await house.send(alice, 'withdraw', bob.address, 45n)
    await house.send(alice, 'withdraw', bob.address, 15n)
    assert.equal(await house.tokensOf(bob), 60n)
    assert.equal(await house.balanceOf(alice), 40n)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 1n)
  })

  test('a user cannot flee from what he was served: the notice leaves time to charge it', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.send(alice, 'requestWithdrawal', 100n)
    assert.equal(await house.read('creditOf', alice.address), 0n) // no further service on credit
    await chain.skip(kNotice - 10n)
    await house.settle('late but in time', [credit(alice, 30n)], [pay(nodes[0], 30n)])
    await chain.skip(10n)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 71n)
    await house.send(alice, 'withdraw', alice.address, 70n)
  })

  test('what may be withdrawn is out of the settler\'s reach', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.send(alice, 'requestWithdrawal', 80n)
    assert.equal(await house.read('chargeableOf', alice.address), 100n)
    await chain.skip(kNotice)
    assert.equal(await house.read('chargeableOf', alice.address), 20n)
    assert.equal(await house.read('creditOf', alice.address), 20n)
    await house.refuses('InsufficientBalance', settler, 'settleBatch', idOf('too late'),
      [credit(alice, 21n)], [pay(nodes[0], 21n)], 0n)
    await house.settle('the rest', [credit(alice, 20n)], [pay(nodes[0], 20n)])
    await house.send(alice, 'withdraw', alice.address, 80n)
  })

  test('a standing request makes an account that only signed reservations can spend', async () => {
    const { house, chain } = suite
    await house.send(alice, 'requestWithdrawal', kMax96)
    await chain.skip(kNotice)
    await house.deposit(alice, 50n)
    assert.equal(await house.read('chargeableOf', alice.address), 0n)
    assert.equal(await house.read('creditOf', alice.address), 0n)
    await house.reserve(alice, idOf('signed'), 20n)
    await house.send(alice, 'withdraw', alice.address, 30n)
    await house.settle('signed', [{ ...credit(alice, 20n), requestId: idOf('signed') }],
      [pay(nodes[0], 20n)])
  })

  test('raising a request starts the notice anew, lowering it does not', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.send(alice, 'requestWithdrawal', 50n)
    const first = (await withdrawable(alice)).withdrawableAt
    await chain.skip(kDay)
    await house.send(alice, 'requestWithdrawal', 20n)
    assert.equal((await withdrawable(alice)).withdrawableAt, first)
    await house.send(alice, 'requestWithdrawal', 21n)
    assert.ok((await withdrawable(alice)).withdrawableAt >= first + kDay)
    await house.send(alice, 'requestWithdrawal', 0n)
    await chain.skip(2n * kNotice)
    await house.refuses('NotWithdrawable', alice, 'withdraw', alice.address, 1n)
    await house.refuses('SafeCastOverflowedUintDowncast', alice, 'requestWithdrawal', kMax96 + 1n)
  })

  test('the exits stay open while everything else is paused', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 10n)
    await house.send(alice, 'requestWithdrawal', 10n)
    await house.send(pauser, 'pause')
    await house.refuses('EnforcedPause', alice, 'deposit', 1n)
    await chain.skip(kNotice)
    await house.send(alice, 'withdraw', alice.address, 10n)
    assert.equal(await house.tokensOf(alice), 10n)
  })
})
