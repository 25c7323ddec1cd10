// Every suite in one process, so that viem and the contracts are loaded once; then the coverage.
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { measuring } from './support/artifacts.mjs'
import { coverage, printCoverage } from './support/coverage.mjs'

const kLeastLinesPercent = 100

const here = dirname(fileURLToPath(import.meta.url))
const wanted = process.argv.slice(2)
for (const name of readdirSync(here).filter((file) => file.endsWith('.test.mjs')).sort()) {
  const chosen = wanted.length === 0 || wanted.some((word) => name.includes(word))
  if (chosen) await import(pathToFileURL(join(here, name)))
}

after(() => {
  if (!measuring || wanted.length > 0) return
  const { lines, covered } = printCoverage(coverage.report(), console.log)
  if (100 * covered < kLeastLinesPercent * lines) {
    console.log(`coverage is below ${kLeastLinesPercent} % of lines`)
    process.exitCode = 1
  }
})
