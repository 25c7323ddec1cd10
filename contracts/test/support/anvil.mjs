// A chain of one's own for a test, a demo or a measurement: anvil on a free port.
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

// The program itself: npm's wrapper is a second process that would have to be stopped too.
function anvilProgram() {
  const { platform, arch } = process
  const packageName = `@foundry-rs/anvil-${platform}-${arch === 'x64' ? 'amd64' : arch}`
  return require.resolve(`${packageName}/bin/anvil${platform === 'win32' ? '.exe' : ''}`)
}

// Resolves to { url, stop } once it listens. The chain ends with this process at the latest.
export function startAnvil(extra = []) {
  const fixed = ['--port', '0', '--hardfork', 'prague', '--gas-limit', '1000000000',
    '--timestamp', '1800000000', '--disable-code-size-limit']
  const child = spawn(anvilProgram(), [...fixed, ...extra], { stdio: ['ignore', 'pipe', 'pipe'] })
  const stop = () => child.kill()
  process.once('exit', stop)
  return new Promise((resolve, reject) => {
    let said = ''
    child.stderr.on('data', (chunk) => { said += chunk })
    child.stdout.on('data', (chunk) => {
      if (said === null) return // keep reading, or its log would fill the pipe
      said += chunk
      const listening = /Listening on (\S+)/.exec(said)
      if (!listening) return
      said = null
      child.unref()
      child.stdout.unref()
      child.stderr.unref()
      resolve({ url: `http://${listening[1]}`, stop })
    })
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`anvil ended with ${code}: ${said}`)))
  })
}
