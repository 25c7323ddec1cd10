// A deployed escrow with its people: who holds which role, and the calls most tests make.
import { after, afterEach, before, beforeEach } from 'node:test'
import assert from 'node:assert/strict'
import { Chain, far, idOf, kDay, kNotice, person, ZERO_ID } from './chain.mjs'

export const admin = person('admin')
export const settler = person('settler')
export const pauser = person('pauser')
export const alice = person('alice')
export const bob = person('bob')
export const mallory = person('mallory')
export const nodes = ['a', 'b', 'c'].map((name) => person(`node ${name}`))

export const kAdminDelay = 2n * kDay
export const ROLES = Object.fromEntries(['SETTLER_ROLE', 'PAUSER_ROLE', 'MINTER_ROLE']
  .map((name) => [name, idOf(name)]))

export class House {
  // `tokenName`: FarToken, or PickyToken for recipients that the token refuses.
  static async build(chain, tokenName = 'FarToken') {
    const house = new House()
    house.chain = chain
    const supply = far('1000000')
    house.token = tokenName === 'FarToken'
      ? await chain.deploy(admin, 'FarToken', [admin.address, kAdminDelay, admin.address, supply])
      : await chain.deploy(admin, tokenName)
    if (tokenName !== 'FarToken') await house.send(admin, 'token.mint', admin.address, supply)
    house.escrow = await chain.deploy(admin, 'InferenceEscrow',
      [house.token.address, admin.address, kAdminDelay, kNotice])
    await house.send(admin, 'grantRole', ROLES.SETTLER_ROLE, settler.address)
    await house.send(admin, 'grantRole', ROLES.PAUSER_ROLE, pauser.address)
    return house
  }

  target(name) {
    const [first, second] = name.split('.')
    return second ? [this[first], second] : [this.escrow, first]
  }

  // Calls name functions of the escrow ('deposit') or of another contract here ('token.mint').
  send(from, name, ...args) { return this.chain.send(from, ...this.target(name), args) }
  read(name, ...args) { return this.chain.read(...this.target(name), args) }

  // house.refuses('BadSignature', settler, 'openReservation', …args)
  refuses(errorName, from, name, ...args) {
    return this.chain.refuses(errorName, from, ...this.target(name), args)
  }

  async deposit(user, amount) {
    await this.send(admin, 'token.transfer', user.address, amount)
    await this.send(user, 'token.approve', this.escrow.address, amount)
    return this.send(user, 'deposit', amount)
  }

  async sign(user, requestId, amount, deadline, signer = user, changes = {}) {
    return signer.signTypedData({
      domain: { name: 'FarMesh InferenceEscrow', version: '1', chainId: this.chain.chainId,
        verifyingContract: this.escrow.address, ...changes },
      types: { Reservation: [
        { name: 'user', type: 'address' }, { name: 'requestId', type: 'bytes32' },
        { name: 'amount', type: 'uint256' }, { name: 'deadline', type: 'uint64' },
      ] },
      primaryType: 'Reservation',
      message: { user: user.address, requestId, amount, deadline },
    })
  }

  async reserve(user, requestId, amount, seconds = kDay) {
    const deadline = await this.chain.now() + seconds
    const signature = await this.sign(user, requestId, amount, deadline)
    await this.send(settler, 'openReservation', user.address, requestId, amount, deadline, signature)
    return deadline
  }

  settle(batch, charges, payments, fee = 0n) {
    return this.send(settler, 'settleBatch', idOf(batch), charges, payments, fee)
  }

  async balanceOf(user) { return (await this.read('accountOf', user.address)).balance }
  tokensOf(who) { return this.read('token.balanceOf', who.address) }

  async checkSolvent() {
    assert.equal(await this.tokensOf(this.escrow), await this.read('owed'))
  }
}

export const credit = (user, amount) => ({ user: user.address, requestId: ZERO_ID, amount })
export const reserved = (user, requestId, amount) => ({ user: user.address, requestId, amount })
export const pay = (provider, amount) => ({ provider: provider.address, amount })

// For a suite: one chain, one house, and every test starts from the same state. After each, the
// escrow must hold exactly what it owes, unless the test sets `house.donated`.
export function houseForSuite(tokenName) {
  const suite = {}
  let state
  before(async () => {
    suite.chain = await Chain.open()
    suite.house = await House.build(suite.chain, tokenName)
  })
  beforeEach(async () => {
    state = await suite.chain.snapshot()
    suite.house.donated = false
  })
  afterEach(async () => {
    if (!suite.house.donated) await suite.house.checkSolvent()
    await suite.chain.restore(state)
  })
  after(() => suite.chain.close())
  return suite
}
