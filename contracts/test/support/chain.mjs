// The chain under test: contracts deployed, transactions sent, refusals decoded.
//
// Tests talk to anvil by JSON-RPC themselves and use viem for encoding and signatures only: each
// call is then one message, and a refusal keeps the contract's own error.
import assert from 'node:assert/strict'
import { decodeErrorResult, decodeEventLog, decodeFunctionResult, encodeDeployData,
  encodeFunctionData, keccak256, stringToHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { startAnvil } from './anvil.mjs'
import { artifacts } from './artifacts.mjs'
import { coverage } from './coverage.mjs'

export const kGas = 100_000_000n // of every transaction: nothing is estimated
export const kFar = 10n ** 18n
export const kDay = 86_400n
export const kNotice = 8n * kDay
export const ZERO = '0x0000000000000000000000000000000000000000'
export const ZERO_ID = `0x${'0'.repeat(64)}`

export const idOf = (text) => keccak256(stringToHex(text))
export const person = (name) => privateKeyToAccount(idOf(`person ${name}`))
export const far = (text) => { // exact: "0.0512" -> base units
  const [whole, part = ''] = text.split('.')
  return BigInt(whole) * kFar + BigInt(part.padEnd(18, '0'))
}

export class Refusal extends Error {
  constructor(what, errorName, args) {
    super(`${what}: ${errorName}(${args})`)
    Object.assign(this, { errorName, args })
  }
}

export class Chain {
  static async open() {
    // Free gas: nobody here needs the chain's own coin.
    const anvil = await startAnvil(['--base-fee', '0', '--gas-price', '0'])
    const chain = new Chain(anvil)
    await chain.rpc('anvil_autoImpersonateAccount', [true])
    chain.chainId = Number(await chain.rpc('eth_chainId'))
    return chain
  }

  constructor(anvil) {
    this.anvil = anvil
    this.contracts = new Map() // by lower-case address
    this.calls = 0
  }

  close() { this.anvil.stop() }

  async post(body) {
    const reply = await fetch(this.anvil.url, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
    })
    return reply.json()
  }

  async rpc(method, params = []) {
    const { result, error } = await this.post({ jsonrpc: '2.0', id: ++this.calls, method, params })
    if (error) throw Object.assign(new Error(`${method}: ${error.message}`), { data: error.data })
    return result
  }

  // --- time and isolation

  async now() { return BigInt((await this.rpc('eth_getBlockByNumber', ['latest', false])).timestamp) }

  async skip(seconds) {
    await this.rpc('evm_increaseTime', [Number(seconds)])
    await this.rpc('evm_mine')
  }

  snapshot() { return this.rpc('evm_snapshot') }
  async restore(id) { await this.rpc('evm_revert', [id]) }

  // --- contracts

  async deploy(from, name, args = []) {
    const { abi, bytecode } = artifacts[name]
    const data = encodeDeployData({ abi, bytecode, args })
    const call = { from: from.address, data, gas: toHex(kGas), gasPrice: '0x0' }
    const receipt = await this.rpc('eth_sendTransactionSync', [call])
    await coverage.transaction(this, receipt.transactionHash,
      `new ${name} ${receipt.status}`, name)
    if (receipt.status !== '0x1') await this.explain(call, { abi }, `new ${name}`)
    const contract = { name, abi, address: receipt.contractAddress }
    this.contracts.set(contract.address.toLowerCase(), contract)
    return contract
  }

  async read(contract, functionName, args = []) {
    return this.call(contract, functionName, args)
  }

  // What many calls return, asked in one message: [[contract, functionName, args]…].
  async readAll(wanted) {
    const replies = await this.post(wanted.map(([contract, functionName, args = []], id) => ({
      jsonrpc: '2.0', id, method: 'eth_call',
      params: [{ to: contract.address,
        data: encodeFunctionData({ abi: contract.abi, functionName, args }) }, 'latest'],
    })))
    const byId = new Map(replies.map((reply) => [reply.id, reply]))
    return wanted.map(([contract, functionName], id) => decodeFunctionResult({
      abi: contract.abi, functionName, data: byId.get(id).result,
    }))
  }

  async call(contract, functionName, args, from, gas = kGas) {
    const call = { to: contract.address, gas: toHex(gas),
      data: encodeFunctionData({ abi: contract.abi, functionName, args }) }
    if (from) call.from = from.address
    const data = await this.explain(call, contract, functionName)
    return decodeFunctionResult({ abi: contract.abi, functionName, data })
  }

  // Runs `call` without a transaction; its revert becomes a Refusal with the contract's own error.
  async explain(call, contract, what) {
    try {
      const result = await this.rpc('eth_call', [call, 'latest'])
      await coverage.call(this, call, `${what} answers`)
      return result
    } catch (error) {
      const data = error.data?.data ?? error.data
      if (typeof data !== 'string' || data.length < 10) throw error
      const known = [...this.contracts.values()].flatMap(({ abi }) => abi)
        .concat(contract.abi).filter(({ type }) => type === 'error')
      const { errorName, args } = decodeErrorResult({ abi: known, data })
      await coverage.call(this, call, `${what} refuses with ${errorName}`)
      throw new Refusal(what, errorName, args ?? [])
    }
  }

  // Sends a transaction and returns { gas, events, receipt }; what reverts becomes a Refusal.
  async send(from, contract, functionName, args = [], gas = kGas) {
    const call = { from: from.address, to: contract.address, gas: toHex(gas), gasPrice: '0x0',
      data: encodeFunctionData({ abi: contract.abi, functionName, args }) }
    const receipt = await this.rpc('eth_sendTransactionSync', [call])
    const outcome = [...new Set(receipt.logs.map(({ topics }) => topics[0]))]
    await coverage.transaction(this, receipt.transactionHash,
      `${contract.name}.${functionName} ${receipt.status} ${outcome}`)
    if (receipt.status !== '0x1') {
      await this.explain(call, contract, functionName)
      throw new Error(`${functionName} reverted, but its call does not`)
    }
    return { gas: BigInt(receipt.gasUsed), events: this.eventsOf(receipt), receipt }
  }

  eventsOf(receipt) {
    return receipt.logs.map(({ address, data, topics }) => {
      const { name, abi } = this.contracts.get(address.toLowerCase())
      return { contract: name, ...decodeEventLog({ abi, data, topics }) }
    })
  }

  // Checks that the call is refused with the error `errorName`. Leaves the chain as it is.
  async refuses(errorName, from, contract, functionName, args = [], gas = kGas) {
    try {
      await this.call(contract, functionName, args, from, gas)
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal
      assert.equal(refusal.errorName, errorName, refusal.message)
      return
    }
    assert.fail(`${functionName} did not refuse with ${errorName}`)
  }
}

export const toHex = (number) => `0x${number.toString(16)}`
