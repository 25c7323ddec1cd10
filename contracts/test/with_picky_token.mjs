// Runs a program with a second escrow on the chain it was given, over a token that refuses whom it
// is told to refuse:
//
//   node with_chain.mjs node test/with_picky_token.mjs PROGRAM [ARGUMENT…]
//
// The program finds FARMESH_PICKY_TOKEN and FARMESH_PICKY_ESCROW in its environment. Anvil's first
// account is the escrow's settler and holds a million tokens.
import { spawn } from 'node:child_process'
import { createPublicClient, createWalletClient, http, parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { foundry } from 'viem/chains'
import { deploy } from '../deploy.mjs'
import { artifacts } from './support/artifacts.mjs'

const kAnvilKey = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

const [program, ...programArguments] = process.argv.slice(2)
const rpc = process.env.FARMESH_RPC
const account = privateKeyToAccount(kAnvilKey)
const { address } = account
const reader = createPublicClient({ chain: foundry, transport: http(rpc), pollingInterval: 50 })
const wallet = createWalletClient({ chain: foundry, transport: http(rpc), account })
const { abi, bytecode } = artifacts.PickyToken
const created = await reader.waitForTransactionReceipt({
  hash: await wallet.deployContract({ abi, bytecode }) })
const token = created.contractAddress
await reader.waitForTransactionReceipt({ hash: await wallet.writeContract({
  address: token, abi, functionName: 'mint', args: [address, parseEther('1000000')] }) })
const { escrow } = await deploy({ chainId: foundry.id, rpc, account, token, admin: address,
  settler: address, pauser: address, adminDelay: 0, notice: 8n * 86_400n })

const child = spawn(program, programArguments, {
  stdio: 'inherit',
  env: { ...process.env, FARMESH_PICKY_TOKEN: token, FARMESH_PICKY_ESCROW: escrow },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('error', (error) => {
  console.error(`with_picky_token: ${error.message}`)
  process.exit(1)
})
child.once('exit', (code, signal) => process.exit(signal ? 1 : code))
