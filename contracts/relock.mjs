// Writes package-lock.json anew after a change of package.json; in place of plain `npm install`.
//
// anvil comes as one optional package a platform. A registry that mirrors only some of them would
// leave the others out of the lockfile, and `npm ci` then refuses it; so all are entered. They ask
// for Node 20, which a native program does not need: with Node 18 npm would silently skip them.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './build.mjs'

const kCpus = { amd64: 'x64', arm64: 'arm64' }

// In a folder of its own: beside node_modules npm would take what lies there, without its hashes.
const folder = mkdtempSync(join(tmpdir(), 'farmesh-lock-'))
for (const name of ['package.json', '.npmrc']) copyFileSync(join(root, name), join(folder, name))
execFileSync('npm', ['install', '--package-lock-only', '--ignore-scripts'],
  { cwd: folder, stdio: 'inherit' })
const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8'))
rmSync(folder, { recursive: true })

const { version, license, optionalDependencies } = lock.packages['node_modules/@foundry-rs/anvil']
for (const name of Object.keys(optionalDependencies)) {
  const [os, cpu] = name.split('-').slice(-2)
  const key = `node_modules/${name}`
  const entry = lock.packages[key] ??
    { version, cpu: [kCpus[cpu]], dev: true, license, optional: true, os: [os] }
  delete entry.engines
  lock.packages[key] = entry
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(join(root, 'package-lock.json'), `${JSON.stringify(lock, null, 2)}\n`)
