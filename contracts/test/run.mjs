// The whole suite: once on the contracts as they are deployed, once compiled for coverage.
//
//   npm test                 everything, coverage printed
//   npm test -- claims gas   only the suites whose file names hold one of the words, once
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const all = join(dirname(fileURLToPath(import.meta.url)), 'all.mjs')
const wanted = process.argv.slice(2)

function run(coverage) {
  console.log(coverage ? '\n== compiled for coverage' : '== compiled as deployed')
  const { status } = spawnSync(process.execPath, ['--test-reporter=spec', all, ...wanted], {
    stdio: 'inherit', env: { ...process.env, FARMESH_COVERAGE: coverage ? '1' : '' },
  })
  if (status !== 0) process.exit(status ?? 1)
}

run(false)
if (wanted.length === 0) run(true)
