// Random sequences of everything one can do, legal and illegal, against a model in a few lines. At
// every step the model must agree with the chain, and the escrow hold exactly what it owes.
//
// FARMESH_SEED repeats a run, FARMESH_STEPS makes it longer.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Chain, idOf, kDay, kNotice, person, Refusal } from './support/chain.mjs'
import { measuring } from './support/artifacts.mjs'
import { admin, credit, House, pay, reserved, settler } from './support/house.mjs'
import { Tree } from './support/tree.mjs'

const kSteps = Number(process.env.FARMESH_STEPS ?? 150)
const kSeeds = process.env.FARMESH_SEED
  ? [Number(process.env.FARMESH_SEED)]
  : [1, 2, Math.floor(Math.random() * 2 ** 32)] // two that stay, one that does not

// Marsaglia's xorshift: small, and the same everywhere.
class Random {
  constructor(seed) { this.state = (seed * 2654435761 + 1) >>> 0 || 1 }
  below(limit) {
    this.state ^= this.state << 13
    this.state ^= this.state >>> 17
    this.state ^= this.state << 5
    return (this.state >>> 0) % limit
  }
  of(list) { return list[this.below(list.length)] }
  chance(percent) { return this.below(100) < percent }
  // Mostly 1…limit, now and then zero or one too many.
  amount(limit) {
    if (this.chance(4)) return limit + 1n
    if (this.chance(4) || limit === 0n) return 0n
    return this.chance(15) ? limit : 1n + BigInt(this.below(2 ** 31)) % limit
  }
}

const users = Array.from({ length: 4 }, (_, i) => person(`user ${i}`))
const providers = Array.from({ length: 6 }, (_, i) => person(`worker ${i}`))

// What the escrow should hold, and the random acts. Each act foretells whether the escrow accepts.
class Play {
  constructor(house, random) {
    Object.assign(this, { house, random, batches: 0, requests: 0, refused: 0, accepted: 0 })
    this.free = new Map(users.map((user) => [user, 0n]))
    this.exits = new Map(users.map((user) => [user, { wanted: 0n, at: 0n }]))
    this.reservations = [] // { user, id, amount, deadline, state }
    this.trees = [] // { tree, claimed: Set, unclaimed }
    this.claimable = new Map() // address -> amount
    this.wallets = new Map(providers.map(({ address }) => [address, 0n]))
    this.refusedBy = new Set() // providers whom the token refuses now
    this.time = 0n
  }

  acts = ['deposit', 'deposit', 'credit', 'credit', 'credit', 'reserve', 'reserve', 'settleReserved',
    'settleReserved', 'authorize', 'cancel', 'reclaim', 'fundTree', 'claim', 'claim', 'claim',
    'requestExit', 'withdraw', 'takeClaimable', 'changeMood', 'wait', 'replay']

  protected(user) {
    const { wanted, at } = this.exits.get(user)
    const free = this.free.get(user)
    if (wanted === 0n || this.time < at) return 0n
    return wanted < free ? wanted : free
  }

  chargeable(user) { return this.free.get(user) - this.protected(user) }
  add(map, key, amount) { map.set(key, (map.get(key) ?? 0n) + amount) }

  // Sends, and checks that the chain's answer is the foretold one; true if it was accepted.
  async does(legal, from, name, ...args) {
    let error
    try {
      await this.house.send(from, name, ...args)
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught
      error = caught
    }
    this.time = await this.house.chain.now()
    const foretold = legal ? 'accepted' : 'refused'
    assert.equal(!error, legal, `${name}: foretold ${foretold}, ${error ?? 'accepted'}`)
    legal ? ++this.accepted : ++this.refused
    return legal
  }

  // Splits `total` over some providers, exactly; the last ones get the odd units.
  split(total) {
    const chosen = providers.filter(() => this.random.chance(50)).concat(this.random.of(providers))
    const each = total / BigInt(chosen.length)
    const odd = Number(total % BigInt(chosen.length))
    return chosen.map((provider, i) =>
      pay(provider, each + (i >= chosen.length - odd ? 1n : 0n))).filter(({ amount }) => amount > 0n)
  }

  delivered(payments) {
    for (const { provider, amount } of payments) {
      this.add(this.refusedBy.has(provider) ? this.claimable : this.wallets, provider, amount)
    }
  }

  feeOf(total) {
    const most = total * 500n / 10_000n
    return this.random.chance(50) ? 0n : this.random.amount(most)
  }

  async deposit() {
    const user = this.random.of(users)
    const amount = BigInt(1 + this.random.below(1_000_000))
    if (await this.does(true, admin, 'depositFor', user.address, amount)) this.add(this.free, user, amount)
  }

  async credit() {
    const charges = []
    const left = new Map(users.map((user) => [user, this.chargeable(user)]))
    let legal = true
    for (let i = 0; i <= this.random.below(4); ++i) {
      const user = this.random.of(users)
      const most = left.get(user)
      const amount = this.random.amount(most)
      legal &&= amount > 0n && amount <= most
      left.set(user, amount < most ? most - amount : 0n)
      charges.push({ user, amount })
    }
    await this.settle(charges.map(({ user, amount }) => credit(user, amount)), legal, () => {
      for (const { user, amount } of charges) this.add(this.free, user, -amount)
    })
  }

  async settleReserved() {
    const chosen = this.reservations.slice(-8).filter(() => this.random.chance(25))
    if (chosen.length === 0) return
    let legal = true
    const costs = chosen.map((reservation) => {
      const cost = this.random.amount(reservation.amount)
      const alive = reservation.state === 'open' || reservation.state === 'authorized'
      legal &&= alive && this.time + 1n < reservation.deadline && cost <= reservation.amount
      return cost
    })
    const charges = chosen.map(({ user, id }, i) => reserved(user, id, costs[i]))
    await this.settle(charges, legal, () => chosen.forEach((reservation, i) => {
      this.add(this.free, reservation.user, reservation.amount - costs[i])
      Object.assign(reservation, { amount: 0n, state: 'closed' })
    }))
  }

  async settle(charges, legal, then) {
    const total = charges.reduce((sum, { amount }) => sum + amount, 0n)
    const fee = this.feeOf(total)
    const enough = fee <= total ? total - fee : 0n
    const off = this.random.chance(4) ? 1n : 0n
    const payments = this.split(enough + off)
    legal &&= off === 0n && fee <= total * 500n / 10_000n
    const batch = idOf(`batch ${++this.batches}`)
    if (!await this.does(legal, settler, 'settleBatch', batch, charges, payments, fee)) return
    then()
    this.delivered(payments)
    if (fee > 0n) this.add(this.claimable, admin.address, fee)
    this.lastBatch = [batch, charges, payments, fee]
  }

  async replay() {
    if (this.lastBatch) await this.does(false, settler, 'settleBatch', ...this.lastBatch)
  }

  async reserve() {
    const user = this.random.of(users)
    const again = this.random.chance(10) && this.reservations.find((one) => one.user === user)
    const id = again ? again.id : idOf(`request ${++this.requests}`)
    const amount = this.random.amount(this.free.get(user))
    const deadline = this.time + 60n + BigInt(this.random.below(3 * Number(kDay)))
    const signer = this.random.chance(5) ? admin : user
    const legal = !again && amount > 0n && amount <= this.free.get(user) && signer === user
    const signature = await this.house.sign(user, id, amount, deadline, signer)
    const args = [user.address, id, amount, deadline, signature]
    if (!await this.does(legal, settler, 'openReservation', ...args)) return
    this.add(this.free, user, -amount)
    this.reservations.push({ user, id, amount, deadline, state: 'open' })
  }

  async authorize() {
    const one = this.pickReservation()
    if (!one) return
    const cost = this.random.amount(one.amount)
    const legal = one.state === 'open' && this.time + 1n < one.deadline && cost > 0n && cost <= one.amount
    const charge = reserved(one.user, one.id, cost)
    if (!await this.does(legal, settler, 'authorizeSettlements', [charge])) return
    this.add(this.free, one.user, one.amount - cost)
    Object.assign(one, { amount: cost, state: 'authorized', deadline: this.time + 14n * kDay })
  }

  async cancel() {
    const one = this.pickReservation()
    if (!one || !await this.does(one.state === 'open', one.user, 'cancelReservation', one.id)) return
    const soon = this.time + 3600n
    if (soon < one.deadline) one.deadline = soon
  }

  async reclaim() {
    const one = this.pickReservation()
    if (!one) return
    const legal = one.state !== 'closed' && this.time + 1n >= one.deadline
    const args = [one.user.address, one.id]
    if (!await this.does(legal, this.random.of(users), 'reclaimReservation', ...args)) return
    this.add(this.free, one.user, one.amount)
    Object.assign(one, { amount: 0n, state: 'closed' })
  }

  // Young ones mostly: old ones are closed, and only good for refusals.
  pickReservation() {
    const young = this.reservations.slice(-6)
    return young.length ? this.random.of(young) : undefined
  }

  async fundTree() {
    const user = this.random.of(users)
    const total = this.random.amount(this.chargeable(user))
    const batch = idOf(`batch ${++this.batches}`)
    const payments = this.split(total)
    const { chain, escrow } = this.house
    const tree = new Tree(chain.chainId, escrow.address, batch, payments.length ? payments
      : [pay(user, 1n)])
    const legal = total > 0n && total <= this.chargeable(user)
    const args = [batch, [credit(user, total)], tree.root, total, 0n]
    if (!await this.does(legal, settler, 'settleBatchToRoot', ...args)) return
    this.add(this.free, user, -total)
    this.trees.push({ tree, claimed: new Set(), unclaimed: total })
  }

  async claim() {
    if (this.trees.length === 0) return
    const one = this.random.of(this.trees.slice(-4))
    const index = this.random.below(one.tree.payments.length)
    const claim = one.tree.claim(index)
    const forged = this.random.chance(10)
    if (forged) claim.amount += 1n
    const legal = !forged && !one.claimed.has(index)
    if (!await this.does(legal, this.random.of(users), 'claim', [claim])) return
    one.claimed.add(index)
    one.unclaimed -= claim.amount
    this.delivered([claim])
  }

  async requestExit() {
    const user = this.random.of(users)
    const wanted = this.random.chance(20) ? 0n : this.random.amount(this.free.get(user) * 2n)
    const exit = this.exits.get(user)
    const { wanted: before } = exit
    await this.does(true, user, 'requestWithdrawal', wanted)
    if (wanted > before) exit.at = this.time + kNotice
    exit.wanted = wanted
  }

  async withdraw() {
    const user = this.random.of(users)
    const available = this.protected(user)
    const amount = this.random.amount(available)
    const legal = amount > 0n && amount <= available
    if (!await this.does(legal, user, 'withdraw', user.address, amount)) return
    this.add(this.free, user, -amount)
    this.exits.get(user).wanted -= amount
  }

  async takeClaimable() {
    const owner = this.random.of(providers.concat(admin))
    const amount = this.claimable.get(owner.address) ?? 0n
    const to = users[0].address // never refused, never counted
    if (await this.does(amount > 0n, owner, 'withdrawClaimable', to)) {
      this.claimable.set(owner.address, 0n)
    }
  }

  async changeMood() {
    const { address } = this.random.of(providers)
    const mood = this.random.of([0, 0, 1, 2, 3, 4, 6])
    await this.does(true, admin, 'token.setMood', address, mood)
    mood === 0 ? this.refusedBy.delete(address) : this.refusedBy.add(address)
  }

  async wait() {
    const seconds = BigInt(this.random.below(this.random.chance(30) ? 12 * Number(kDay) : 7200))
    await this.house.chain.skip(seconds + 1n)
    this.time = await this.house.chain.now()
  }

  // Every number of the model against the chain's, in one message.
  async check() {
    const { house, reservations, trees } = this
    const { chain, escrow, token } = house
    const live = reservations.slice(-40)
    const owners = providers.concat(admin).map(({ address }) => address)
    const expected = [
      ...users.map((user) => [[escrow, 'accountOf', [user.address]], this.free.get(user), 'balance']),
      ...live.map((one) => [[escrow, 'reservationOf', [one.user.address, one.id]], one.amount, 'amount']),
      ...trees.map((one) => [[escrow, 'batchOf', [one.tree.batchId]], one.unclaimed, 'unclaimed']),
      ...owners.map((address) => [[escrow, 'claimable', [address]], this.claimable.get(address) ?? 0n]),
      ...providers.map(({ address }) => [[token, 'balanceOf', [address]], this.wallets.get(address)]),
    ]
    const answers = await chain.readAll(expected.map(([call]) => call)
      .concat([[escrow, 'owed'], [token, 'balanceOf', [escrow.address]]]))
    const [owed, held] = answers.slice(-2)
    expected.forEach(([[, name, args], amount, field], i) =>
      assert.equal(field ? answers[i][field] : answers[i], amount, `${name}(${args})`))
    const sum = [...this.free.values(), ...reservations.map(({ amount }) => amount),
      ...trees.map(({ unclaimed }) => unclaimed), ...this.claimable.values()]
      .reduce((total, amount) => total + amount, 0n)
    assert.equal(held, sum, 'the escrow holds balances + reservations + roots + claimables')
    assert.equal(owed, sum, 'and owes as much')
  }
}

describe('conservation', { skip: measuring && 'it reaches no line that the other suites do not' }, () => {
  let chain, house
  before(async () => {
    chain = await Chain.open()
    house = await House.build(chain, 'PickyToken')
    await house.send(admin, 'token.approve', house.escrow.address, 10n ** 24n)
    await house.send(admin, 'setFee', admin.address, 500n)
  })
  after(() => chain.close())

  for (const seed of kSeeds) {
    test(`holds at every of ${kSteps} random steps, seed ${seed}`, async (t) => {
      const state = await chain.snapshot()
      const play = new Play(house, new Random(seed))
      play.time = await chain.now()
      let step = 0
      let act
      try {
        for (; step < kSteps; ++step) {
          act = step < 4 ? 'deposit' : play.random.of(play.acts)
          await play[act]()
          await play.check()
        }
      } catch (error) {
        error.message = `FARMESH_SEED=${seed}, step ${step}, ${act}: ${error.message}`
        throw error
      } finally {
        await chain.restore(state)
      }
      t.diagnostic(`seed ${seed}: ${play.accepted} acts accepted, ${play.refused} refused as foretold`)
      assert.ok(play.refused > 0 && play.accepted > kSteps / 5)
    })
  }
})
