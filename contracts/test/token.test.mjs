import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseSignature } from 'viem'
import { far, idOf, ZERO_ID } from './support/chain.mjs'
import { admin, alice, bob, houseForSuite, kAdminDelay, mallory, ROLES } from './support/house.mjs'

const kPermit = Object.entries({
  owner: 'address', spender: 'address', value: 'uint256', nonce: 'uint256', deadline: 'uint256',
}).map(([name, type]) => ({ name, type }))

describe('FarToken', () => {
  const suite = houseForSuite()
  const token = (from, name, ...args) => suite.house.send(from, `token.${name}`, ...args)
  const read = (name, ...args) => suite.house.read(`token.${name}`, ...args)
  const refuses = (error, from, name, ...args) =>
    suite.house.refuses(error, from, `token.${name}`, ...args)

  test('has the published name, symbol, decimals and cap', async () => {
    assert.deepEqual(await Promise.all(['name', 'symbol', 'decimals', 'CAP'].map((n) => read(n))),
      ['Far', 'FAR', 18, far('1000000000')])
  })

  test('mints up to the cap and not one unit beyond', async () => {
    await token(admin, 'grantRole', ROLES.MINTER_ROLE, bob.address)
    const left = far('1000000000') - await read('minted')
    await refuses('CapExceeded', bob, 'mint', alice.address, left + 1n)
    await token(bob, 'mint', alice.address, left)
    assert.equal(await read('totalSupply'), far('1000000000'))
    await refuses('CapExceeded', bob, 'mint', alice.address, 1n)
    await refuses('CapExceeded', bob, 'mint', alice.address, 2n ** 256n - 1n)
  })

  test('a burned token is never minted again', async () => {
    await token(admin, 'grantRole', ROLES.MINTER_ROLE, admin.address)
    await token(admin, 'mint', admin.address, far('999000000'))
    await token(admin, 'burn', far('5'))
    assert.equal(await read('totalSupply'), far('999999995'))
    await refuses('CapExceeded', admin, 'mint', admin.address, 1n)
  })

  test('starts with nothing when no initial supply is asked for', async () => {
    const empty = await suite.chain.deploy(admin, 'FarToken',
      [admin.address, kAdminDelay, admin.address, 0n])
    assert.equal(await suite.chain.read(empty, 'totalSupply'), 0n)
  })

  test('only the minter mints, only the pauser pauses', async () => {
    for (const [name, ...args] of [['mint', bob.address, 1n], ['pause'], ['unpause']]) {
      await refuses('AccessControlUnauthorizedAccount', mallory, name, ...args)
    }
  })

  test('a pause stops transfers, burns and mints until it ends', async () => {
    await token(admin, 'grantRole', ROLES.PAUSER_ROLE, bob.address)
    await token(admin, 'grantRole', ROLES.MINTER_ROLE, bob.address)
    await token(bob, 'pause')
    await refuses('EnforcedPause', admin, 'transfer', alice.address, 1n)
    await refuses('EnforcedPause', admin, 'burn', 1n)
    await refuses('EnforcedPause', bob, 'mint', alice.address, 1n)
    await token(bob, 'unpause')
    await token(admin, 'transfer', alice.address, 1n)
  })

  test('a permit lets another spend without a transaction of the owner, once', async () => {
    await token(admin, 'transfer', alice.address, 10n)
    const deadline = await suite.chain.now() + 600n
    const signature = await alice.signTypedData({
      domain: { name: 'Far', version: '1', chainId: suite.chain.chainId,
        verifyingContract: suite.house.token.address },
      types: { Permit: kPermit },
      primaryType: 'Permit',
      message: { owner: alice.address, spender: bob.address, value: 4n, nonce: 0n, deadline },
    })
    const { r, s, yParity } = parseSignature(signature)
    const args = [alice.address, bob.address, 4n, deadline, 27 + yParity, r, s]
    await token(mallory, 'permit', ...args)
    await token(bob, 'transferFrom', alice.address, bob.address, 4n)
    assert.equal(await read('balanceOf', bob.address), 4n)
    await refuses('ERC2612InvalidSigner', mallory, 'permit', ...args)
  })

  test('the admin role changes hands in two steps, after its delay', async () => {
    await refuses('AccessControlEnforcedDefaultAdminRules', admin, 'grantRole', ZERO_ID, bob.address)
    await token(admin, 'beginDefaultAdminTransfer', bob.address)
    await refuses('AccessControlEnforcedDefaultAdminDelay', bob, 'acceptDefaultAdminTransfer')
    await suite.chain.skip(kAdminDelay + 1n)
    await refuses('AccessControlInvalidDefaultAdmin', mallory, 'acceptDefaultAdminTransfer')
    await token(bob, 'acceptDefaultAdminTransfer')
    assert.equal(await read('defaultAdmin'), bob.address)
    assert.equal(await read('hasRole', idOf('unused'), bob.address), false)
  })
})
