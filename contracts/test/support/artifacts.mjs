// What the tests run: the contracts as deployed, or, with FARMESH_COVERAGE=1, compiled without the
// optimiser, which would merge lines that must be told apart. The mocks come along in both.
import { cached, compile, contractsOf } from '../../build.mjs'

export const measuring = process.env.FARMESH_COVERAGE === '1'

const kFolders = ['src', 'test/mocks']

export const artifacts = measuring ? unoptimised().contracts : deployed()

function deployed() {
  return cached('test/deployed.json', kFolders, () => contractsFrom(compile(kFolders))).contracts
}

// Also `sources`: path -> { id, ast }, in which the source maps count.
export function unoptimised() {
  return cached('test/coverage.json', kFolders, () => {
    const output = compile(kFolders, { optimizer: { enabled: false } })
    return { ...contractsFrom(output), sources: output.sources }
  })
}

function contractsFrom(output) {
  const contracts = {}
  for (const [name, { abi, evm }] of Object.entries(contractsOf(output, kFolders))) {
    contracts[name] = {
      abi,
      bytecode: `0x${evm.bytecode.object}`,
      maps: {
        creation: { code: evm.bytecode.object, map: evm.bytecode.sourceMap },
        runtime: { code: evm.deployedBytecode.object, map: evm.deployedBytecode.sourceMap },
      },
    }
  }
  return { contracts }
}
