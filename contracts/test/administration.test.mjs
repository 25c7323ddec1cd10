import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ZERO, ZERO_ID } from './support/chain.mjs'
import { admin, alice, bob, credit, houseForSuite, kAdminDelay, mallory, nodes, pay, pauser, ROLES,
  settler } from './support/house.mjs'

describe('administration', () => {
  const suite = houseForSuite()

  test('is closed to strangers, settlers and pausers', async () => {
    const { house } = suite
    for (const from of [mallory, settler, pauser]) {
      const refused = (name, ...args) =>
        house.refuses('AccessControlUnauthorizedAccount', from, name, ...args)
      await refused('setFee', from.address, 1n)
      await refused('setDailyLimit', 1n)
      await refused('rescue', house.token.address, from.address, 1n)
      await refused('grantRole', ROLES.SETTLER_ROLE, from.address)
      await refused('beginDefaultAdminTransfer', from.address)
    }
    await house.refuses('AccessControlUnauthorizedAccount', settler, 'pause')
    await house.refuses('AccessControlUnauthorizedAccount', settler, 'unpause')
  })

  test('the admin changes in two steps, after the delay', async () => {
    const { house, chain } = suite
    await house.refuses('AccessControlEnforcedDefaultAdminRules', admin, 'grantRole', ZERO_ID, bob.address)
    await house.send(admin, 'beginDefaultAdminTransfer', bob.address)
    await house.refuses('AccessControlEnforcedDefaultAdminDelay', bob, 'acceptDefaultAdminTransfer')
    await chain.skip(kAdminDelay + 1n)
    await house.refuses('AccessControlInvalidDefaultAdmin', mallory, 'acceptDefaultAdminTransfer')
    await house.send(bob, 'acceptDefaultAdminTransfer')
    await house.refuses('AccessControlUnauthorizedAccount', admin, 'setDailyLimit', 1n)
    await house.send(bob, 'setDailyLimit', 1n)
  })

  test('a settler whose key was stolen is dismissed at once', async () => {
    const { house } = suite
    await house.deposit(alice, 10n)
    await house.send(admin, 'revokeRole', ROLES.SETTLER_ROLE, settler.address)
    await assert.rejects(house.settle('b', [credit(alice, 1n)], [pay(nodes[0], 1n)]),
      { errorName: 'AccessControlUnauthorizedAccount' })
  })

  test('the fee has a ceiling that no admin can lift, and needs a recipient', async () => {
    const { house } = suite
    await house.refuses('FeeTooHigh', admin, 'setFee', bob.address, 2001n)
    await house.refuses('ZeroAddress', admin, 'setFee', ZERO, 1n)
    await house.send(admin, 'setFee', bob.address, 2000n)
    await house.send(admin, 'setFee', ZERO, 0n)
    assert.equal(await house.read('maxFeeBps'), 0n)
  })

  test('stray tokens are returned, and of our own only what nobody is owed', async () => {
    const { house, chain } = suite
    await house.deposit(alice, 100n)
    await house.refuses('NotSurplus', admin, 'rescue', house.token.address, admin.address, 1n)
    await house.send(admin, 'token.transfer', house.escrow.address, 7n)
    house.donated = true
    await house.refuses('NotSurplus', admin, 'rescue', house.token.address, bob.address, 8n)
    await house.send(admin, 'rescue', house.token.address, bob.address, 7n)
    assert.equal(await house.tokensOf(bob), 7n)
    await house.checkSolvent()
    const other = await chain.deploy(admin, 'PickyToken')
    await chain.send(admin, other, 'mint', [house.escrow.address, 5n])
    await house.send(admin, 'rescue', other.address, bob.address, 5n)
    assert.equal(await chain.read(other, 'balanceOf', [bob.address]), 5n)
  })

  test('says which interfaces it speaks', async () => {
    assert.equal(await suite.house.read('supportsInterface', '0x01ffc9a7'), true)
    assert.equal(await suite.house.read('supportsInterface', '0xffffffff'), false)
  })
})
