// Deploys the token (unless there is one) and the escrow, and prints what a coordinator needs to
// know as one line of JSON.
//
//   node deploy.mjs --network anvil|bsc-testnet|bsc [--rpc URL]
//   node deploy.mjs --chain-id N --rpc URL
//
//   --key-file FILE       the deployer's private key in hex; on `anvil` its first account by default
//   --token ADDRESS       an ERC-20 with permit that is there already; otherwise $FAR is deployed
//   --initial-supply N    whole $FAR minted to the admin (1000000 on anvil, else 0)
//   --admin ADDRESS       the deployer by default
//   --settler ADDRESS     and
//   --pauser ADDRESS      receive their roles, if the deployer is the admin (the default is himself)
//   --admin-delay SEC     between the two steps of handing the admin role over (172800; anvil 0)
//   --notice SEC          of withdrawals (691200, eight days)
//
// A key comes from a file, never from a flag or the environment, where others could read it.
// addresses.json is the address book: of the local chain alone, where the first deployment of its first
// account always lands. addresses.anvil.json remembers what was deployed last; no other is written down.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createPublicClient, createWalletClient, defineChain, getAddress, http, keccak256, parseEther,
  stringToHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { build, root } from './build.mjs'

const kNetworks = {
  anvil: { chainId: 31337, rpc: 'http://127.0.0.1:8545', supply: '1000000', adminDelay: 0 },
  'bsc-testnet': { chainId: 97, rpc: 'https://bsc-testnet-dataseed.bnbchain.org' },
  bsc: { chainId: 56, rpc: 'https://bsc-dataseed.bnbchain.org' },
}
const kDefaults = { supply: '0', adminDelay: 2 * 86_400, notice: 8 * 86_400 }

// The key of anvil's first account, which is the same everywhere and worth nothing anywhere else.
const kAnvilKey = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

class UsageError extends Error {}

function settingsFrom(argv) {
  const names = ['network', 'rpc', 'chain-id', 'key-file', 'token', 'initial-supply', 'admin',
    'settler', 'pauser', 'admin-delay', 'notice']
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' }]))
  let given
  try {
    given = parseArgs({ args: argv, options }).values
  } catch (error) {
    throw new UsageError(error.message)
  }
  if (!given.network && !given['chain-id']) throw new UsageError('give --network or --chain-id')
  const network = given.network ? kNetworks[given.network] : {}
  if (!network) {
    const known = Object.keys(kNetworks).join(', ')
    throw new UsageError(`no network ${given.network}; there are ${known}`)
  }
  const chainId = Number(given['chain-id'] ?? network.chainId)
  if (!Number.isSafeInteger(chainId) || chainId < 1) throw new UsageError('--chain-id is not a number')
  if (network.chainId && chainId !== network.chainId) {
    throw new UsageError(`${given.network} is chain ${network.chainId}, not ${chainId}`)
  }
  const rpc = given.rpc ?? network.rpc
  if (!rpc) throw new UsageError('--chain-id needs --rpc')
  const local = given.network === 'anvil'
  if (!local && !given['key-file']) throw new UsageError('needs --key-file')
  const account = accountFrom(given['key-file'])
  const admin = addressFrom(given, 'admin', account.address)
  return {
    local, chainId, rpc, account, admin,
    token: given.token && addressFrom(given, 'token'),
    settler: addressFrom(given, 'settler', account.address),
    pauser: addressFrom(given, 'pauser', account.address),
    supply: parseEther(given['initial-supply'] ?? network.supply ?? kDefaults.supply),
    adminDelay: Number(given['admin-delay'] ?? network.adminDelay ?? kDefaults.adminDelay),
    notice: BigInt(given.notice ?? kDefaults.notice),
  }
}

function accountFrom(file) {
  if (!file) return privateKeyToAccount(kAnvilKey)
  const text = readFileSync(file, 'utf8').trim()
  if (!/^(0x)?[0-9a-fA-F]{64}$/.test(text)) throw new UsageError('the key file holds no 32 bytes in hex')
  return privateKeyToAccount(text.startsWith('0x') ? text : `0x${text}`)
}

function addressFrom(given, name, otherwise) {
  try {
    return getAddress(given[name] ?? otherwise)
  } catch {
    throw new UsageError(`--${name} is not an address`)
  }
}

// Resolves to { chain_id, token, escrow, … } once every transaction is confirmed.
export async function deploy(settings) {
  const { account, admin } = settings
  const transport = http(settings.rpc)
  const chain = defineChain({ id: settings.chainId, name: `chain ${settings.chainId}`,
    nativeCurrency: { name: 'coin', symbol: 'COIN', decimals: 18 },
    rpcUrls: { default: { http: [settings.rpc] } } })
  const pollingInterval = settings.chainId === kNetworks.anvil.chainId ? 50 : 1000
  const reader = createPublicClient({ chain, transport, pollingInterval })
  const wallet = createWalletClient({ chain, transport, account })
  const actual = await reader.getChainId()
  if (actual !== settings.chainId) {
    throw new UsageError(`the node serves chain ${actual}, not ${settings.chainId}: nothing was sent`)
  }

  const confirm = async (hash) => {
    const receipt = await reader.waitForTransactionReceipt({ hash })
    if (receipt.status !== 'success') throw new Error(`transaction ${hash} was reverted`)
    return receipt
  }
  const artifacts = build()
  const create = async (name, args) => {
    const receipt = await confirm(await wallet.deployContract({ ...artifacts[name], args }))
    return { address: getAddress(receipt.contractAddress), block: receipt.blockNumber }
  }

  const token = settings.token ?? (await create('FarToken',
    [admin, settings.adminDelay, admin, settings.supply])).address
  const escrow = await create('InferenceEscrow', [token, admin, settings.adminDelay, settings.notice])
  const roles = { SETTLER_ROLE: settings.settler, PAUSER_ROLE: settings.pauser }
  const granted = admin === account.address
  for (const [role, holder] of granted ? Object.entries(roles) : []) {
    await confirm(await wallet.writeContract({ address: escrow.address,
      abi: artifacts.InferenceEscrow.abi, functionName: 'grantRole',
      args: [keccak256(stringToHex(role)), holder] }))
  }
  return {
    chain_id: settings.chainId, token, escrow: escrow.address, block: Number(escrow.block), admin,
    settler: granted ? settings.settler : null, pauser: granted ? settings.pauser : null,
    withdrawal_notice_sec: Number(settings.notice),
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const settings = settingsFrom(process.argv.slice(2))
    const text = JSON.stringify(await deploy(settings))
    if (settings.local) writeFileSync(join(root, 'addresses.anvil.json'), `${text}\n`)
    console.log(text)
  } catch (error) {
    console.error(`deploy: ${error.shortMessage ?? error.message}`)
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}
