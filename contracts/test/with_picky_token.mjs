// Runs a program with more on the chain it was given: a second escrow over a token that refuses whom
// it is told to refuse, and a wallet that is a contract of anvil's second account:
//
//   node with_chain.mjs node test/with_picky_token.mjs PROGRAM [ARGUMENT…]
//
// The program finds FARMESH_PICKY_TOKEN, FARMESH_PICKY_ESCROW and FARMESH_CONTRACT_WALLET in its
// environment. Anvil's first account is the escrow's settler and holds a million tokens.
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
const create = async ({ abi, bytecode }, args = []) => {
  const hash = await wallet.deployContract({ abi, bytecode, args })
  return (await reader.waitForTransactionReceipt({ hash })).contractAddress
}
const { abi } = artifacts.PickyToken
const token = await create(artifacts.PickyToken)
const contractWallet = await create(artifacts.ContractWallet,
  ['0x70997970C51812dc3A010C7d01b50e0d17dc79C8'])
await reader.waitForTransactionReceipt({ hash: await wallet.writeContract({
  address: token, abi, functionName: 'mint', args: [address, parseEther('1000000')] }) })
const { escrow } = await deploy({ chainId: foundry.id, rpc, account, token, admin: address,
  settler: address, pauser: address, adminDelay: 0, notice: 8n * 86_400n })

const child = spawn(program, programArguments, {
  stdio: 'inherit',
  env: { ...process.env, FARMESH_PICKY_TOKEN: token, FARMESH_PICKY_ESCROW: escrow,
    FARMESH_CONTRACT_WALLET: contractWallet },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('error', (error) => {
  console.error(`with_picky_token: ${error.message}`)
  process.exit(1)
})
child.once('exit', (code, signal) => process.exit(signal ? 1 : code))
