// Runs a program beside a chain of its own: anvil on a free port, with the contracts deployed.
//
//   node with_chain.mjs PROGRAM [ARGUMENT…]
//
// The program finds FARMESH_RPC, FARMESH_TOKEN, ESCROW_CONTRACT_ADDRESS and FARMESH_ESCROW_BLOCK in
// its environment. Settler, admin and holder of a million $FAR is anvil's first account. Ends with
// the program's status; the chain ends with it.
import { spawn } from 'node:child_process'
import { createPublicClient, http, parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { deploy } from './deploy.mjs'
import { startAnvil } from './test/support/anvil.mjs'

const kAnvilKey = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

const [program, ...programArguments] = process.argv.slice(2)
if (!program) {
  console.error('with_chain: name a program')
  process.exit(2)
}
const anvil = await startAnvil()
const account = privateKeyToAccount(kAnvilKey)
const { address } = account
const deployed = await deploy({
  chainId: await createPublicClient({ transport: http(anvil.url) }).getChainId(),
  rpc: anvil.url, account, admin: address, settler: address, pauser: address,
  supply: parseEther('1000000'), adminDelay: 0, notice: 8n * 86_400n,
})
const child = spawn(program, programArguments, {
  stdio: 'inherit',
  env: {
    ...process.env,
    FARMESH_RPC: anvil.url,
    FARMESH_TOKEN: deployed.token,
    ESCROW_CONTRACT_ADDRESS: deployed.escrow,
    FARMESH_ESCROW_BLOCK: String(deployed.block),
  },
})
const end = (status) => {
  anvil.stop()
  process.exit(status)
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('error', (error) => {
  console.error(`with_chain: ${error.message}`)
  end(1)
})
child.once('exit', (code, signal) => end(signal ? 1 : code))
