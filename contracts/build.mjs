// Compiles src/ with the npm solc into out/: one NAME.json a contract, with abi and bytecode.
//
//   node build.mjs               what is deployed
//   import { compile } …         other builds: tests add their mocks, coverage compiles unoptimised
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(fileURLToPath(import.meta.url))
const require = createRequire(import.meta.url)

// EVM version: OpenZeppelin 5 needs Cancun, which BNB Smart Chain has had since 2024.
const kDeployed = { evmVersion: 'cancun', optimizer: { enabled: true, runs: 10_000 } }

function solidityFiles(folder) {
  return readdirSync(join(root, folder)).filter((name) => name.endsWith('.sol')).sort()
    .map((name) => `${folder}/${name}`)
}

function readImport(path) {
  for (const folder of [root, join(root, 'node_modules')]) {
    const file = join(folder, path)
    if (existsSync(file)) return { contents: readFileSync(file, 'utf8') }
  }
  return { error: `${path} is not there; run npm ci in contracts/` }
}

// solc's standard output for the .sol files of `folders`. Throws its errors, and warnings about
// our own files.
export function compile(folders, settings = {}) {
  const solc = require('solc')
  const sources = Object.fromEntries(folders.flatMap(solidityFiles)
    .map((path) => [path, { content: readFileSync(join(root, path), 'utf8') }]))
  const wanted = { '': ['ast'], '*': ['abi', 'evm.bytecode', 'evm.deployedBytecode'] }
  const outputSelection = Object.fromEntries(Object.keys(sources).map((path) => [path, wanted]))
  const input = { language: 'Solidity', sources, settings: { ...kDeployed, ...settings, outputSelection } }
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }))
  const tooLargeToDeploy = '5574' // expected of a build that is not meant to be
  const ours = (output.errors ?? []).filter((e) => e.severity === 'error' ||
    (!e.sourceLocation?.file.startsWith('@openzeppelin/') &&
      (e.errorCode !== tooLargeToDeploy || input.settings.optimizer.enabled)))
  if (ours.length > 0) throw new Error(ours.map((e) => e.formattedMessage).join('\n'))
  return output
}

// The contracts of `folders` in solc's output, by name.
export function contractsOf(output, folders) {
  const found = {}
  for (const [path, contracts] of Object.entries(output.contracts)) {
    if (folders.includes(dirname(path))) Object.assign(found, contracts)
  }
  return found
}

// Calls `make` for what belongs into out/`file`, unless that is there and up to date.
export function cached(file, folders, make) {
  const hash = createHash('sha256')
  for (const path of ['build.mjs', 'package-lock.json', ...folders.flatMap(solidityFiles)]) {
    hash.update(path).update(readFileSync(join(root, path)))
  }
  const digest = hash.digest('hex')
  const path = join(root, 'out', file)
  if (existsSync(path)) {
    const held = JSON.parse(readFileSync(path, 'utf8'))
    if (held.digest === digest) return held
  }
  const fresh = { digest, ...make() }
  mkdirSync(dirname(path), { recursive: true })
  const part = `${path}.${process.pid}`
  writeFileSync(part, JSON.stringify(fresh, null, 1))
  renameSync(part, path)
  return fresh
}

// The artifact { abi, bytecode } of each contract of src/, also written to out/NAME.json.
export function build() {
  let output
  return Object.fromEntries(['FarToken', 'InferenceEscrow'].map((name) => {
    const make = () => {
      output ??= contractsOf(compile(['src']), ['src'])
      const { abi, evm } = output[name]
      return { abi, bytecode: `0x${evm.bytecode.object}` }
    }
    return [name, cached(`${name}.json`, ['src'], make)]
  }))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, { bytecode }] of Object.entries(build())) {
    console.log(`out/${name}.json  ${bytecode.length / 2 - 1} bytes to deploy`)
  }
}
