// The deploy script as people run it: a process, its exit status, its JSON.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { root } from '../build.mjs'
import { startAnvil } from './support/anvil.mjs'
import { artifacts, measuring } from './support/artifacts.mjs'
import { Chain, far, idOf, person } from './support/chain.mjs'

describe('deploy.mjs', { skip: measuring && 'it deploys another build' }, () => {
  let anvil, chain, folder
  before(async () => {
    anvil = await startAnvil()
    chain = new Chain(anvil)
    folder = mkdtempSync(join(tmpdir(), 'farmesh-deploy-'))
  })
  after(() => {
    anvil.stop()
    rmSync(folder, { recursive: true })
  })

  const run = (...args) => new Promise((resolve) => {
    execFile(process.execPath, [join(root, 'deploy.mjs'), ...args], (error, stdout, stderr) =>
      resolve({ status: error ? error.code : 0, stdout, stderr }))
  })

  test('deploys token and escrow with their roles, and prints the addresses', async () => {
    const settler = person('settler').address
    const { status, stdout, stderr } = await run('--chain-id', '31337', '--rpc', anvil.url,
      '--key-file', key(), '--settler', settler, '--initial-supply', '5', '--notice', '7200')
    assert.equal(status, 0, stderr)
    const told = JSON.parse(stdout)
    const escrow = { abi: artifacts.InferenceEscrow.abi, address: told.escrow }
    const token = { abi: artifacts.FarToken.abi, address: told.token }
    assert.equal(await chain.read(escrow, 'token'), told.token)
    assert.equal(await chain.read(escrow, 'defaultAdmin'), told.admin)
    assert.equal(await chain.read(escrow, 'hasRole', [idOf('SETTLER_ROLE'), settler]), true)
    assert.equal(await chain.read(escrow, 'withdrawalNotice'), 7200n)
    assert.equal(await chain.read(token, 'balanceOf', [told.admin]), far('5'))
  })

  test('on a local chain of its own puts them where the address book says, which knows no other', async () => {
    const book = JSON.parse(readFileSync(join(root, 'addresses.json'), 'utf8'))
    assert.deepEqual(Object.keys(book), ['anvil'])
    const fresh = await startAnvil()
    try {
      const { status, stdout, stderr } = await run('--network', 'anvil', '--rpc', fresh.url)
      assert.equal(status, 0, stderr)
      const { chain_id, token, escrow } = JSON.parse(stdout)
      assert.deepEqual({ chain_id, token, escrow }, book.anvil)
    } finally {
      fresh.stop()
    }
  })

  test('says what is wrong, and sends nothing to another chain than the one named', async () => {
    const refused = async (pattern, ...args) => {
      const { status, stderr } = await run(...args)
      assert.equal(status, 2, stderr)
      assert.match(stderr, pattern)
    }
    await refused(/give --network or --chain-id/)
    await refused(/no network mainnet/, '--network', 'mainnet')
    await refused(/needs --key-file/, '--network', 'bsc')
    await refused(/the node serves chain 31337, not 97/, '--network', 'bsc-testnet', '--rpc', anvil.url,
      '--key-file', key())
    writeFileSync(join(folder, 'bad'), 'not a key')
    await refused(/no 32 bytes/, '--network', 'bsc', '--key-file', join(folder, 'bad'))
    await refused(/Unknown option/, '--network', 'bsc', '--private-key', '0x00')
  })

  function key() {
    const file = join(folder, 'key')
    const anvilsFirst = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'
    writeFileSync(file, `${anvilsFirst}\n`, { mode: 0o600 })
    return file
  }
})
