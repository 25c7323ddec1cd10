// Line coverage by source maps.
//
// Transactions and refused calls are traced; the tracer reports which program counters each contract
// executed. solc's source map turns a counter into a range of source, and the syntax
// tree says which statement that range belongs to: the smallest one around it. A line counts as
// covered when every statement that begins on it ran, so `if (…) revert …;` needs both outcomes.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../build.mjs'
import { artifacts, measuring, unoptimised } from './artifacts.mjs'

const kTracer = `{
  seen: {},
  step: function(log) {
    var address = toHex(log.contract.getAddress());
    (this.seen[address] = this.seen[address] || {})[log.getPC()] = 1;
  },
  fault: function() {},
  result: function() { return this.seen; }
}`

const kTracesOfEach = 5

class Coverage {
  constructor() {
    this.counters = new Map() // "NAME runtime" -> set of program counters
    this.traced = new Map() // what was done -> times
  }

  // Counts what transaction `hash` executed; `creates` names the contract it deploys.
  async transaction(chain, hash, what, creates) {
    if (!this.wants(what)) return
    const seen = await chain.rpc('debug_traceTransaction', [hash, { tracer: kTracer }])
    this.add(chain, seen, creates)
  }

  async call(chain, call, what) {
    if (!this.wants(what)) return
    this.add(chain, await chain.rpc('debug_traceCall', [call, 'latest', { tracer: kTracer }]))
  }

  // Tracing costs far more than running: of acts with the same name and the same outcome (events, or
  // error) only the first few are traced. What is left out can only lower the result.
  wants(what) {
    if (!measuring) return false
    const times = this.traced.get(what) ?? 0
    this.traced.set(what, times + 1)
    return times < kTracesOfEach
  }

  add(chain, seen, creates) {
    for (const [address, executed] of Object.entries(seen)) {
      const known = chain.contracts.get(address.toLowerCase())
      const key = creates ? `${creates} creation` : known && `${known.name} runtime`
      if (!key) continue
      if (!this.counters.has(key)) this.counters.set(key, new Set())
      for (const counter of Object.keys(executed)) this.counters.get(key).add(Number(counter))
    }
  }

  // { file: { lines: Map(line -> covered), statements: [{ line, ran }] } } for each file of src/.
  report() {
    const { sources } = unoptimised()
    const files = new Map()
    for (const [path, { id, ast }] of Object.entries(sources)) {
      if (!path.startsWith('src/')) continue
      const statements = statementsOf(ast)
      if (statements.length > 0) files.set(id, { path, statements })
    }
    for (const [name, { maps }] of Object.entries(artifacts)) {
      for (const kind of ['creation', 'runtime']) {
        const executed = this.counters.get(`${name} ${kind}`)
        if (executed) mark(files, maps[kind], executed)
      }
    }
    return Object.fromEntries([...files.values()].map(({ path, statements }) => {
      const text = readFileSync(join(root, path))
      for (const statement of statements) statement.line = lineOf(text, statement.start)
      const lines = new Map()
      for (const { line, ran } of statements) lines.set(line, (lines.get(line) ?? true) && ran)
      return [path, { lines, statements }]
    }))
  }
}

export const coverage = new Coverage()

const lineOf = (text, offset) => {
  let line = 1
  for (let i = 0; i < offset; ++i) if (text[i] === 10) ++line
  return line
}

// Statements that do something themselves: not blocks, not the `_;` of a modifier.
const kContainers = new Set(['Block', 'UncheckedBlock', 'PlaceholderStatement', 'TryCatchClause'])

function statementsOf(ast) {
  const found = []
  const visit = (node, inBody) => {
    if (Array.isArray(node)) return node.forEach((child) => visit(child, inBody))
    if (node === null || typeof node !== 'object' || !node.nodeType) return
    const body = inBody || node.nodeType === 'Block'
    const isStatement = body && !kContainers.has(node.nodeType) &&
      (node.nodeType.endsWith('Statement') || node.nodeType === 'Return' ||
        node.nodeType === 'InlineAssembly')
    if (isStatement) {
      const [start, length] = node.src.split(':').map(Number)
      found.push({ start, end: start + length, ran: false })
    }
    for (const [key, child] of Object.entries(node)) if (key !== 'AST') visit(child, body)
  }
  visit(ast, false)
  return found
}

function mark(files, { code, map }, executed) {
  let counter = 0
  for (const { start, length, file } of entriesOf(map)) {
    if (executed.has(counter) && files.has(file) && length > 0) {
      const owner = smallestAround(files.get(file).statements, start, start + length)
      if (owner) owner.ran = true
    }
    const opcode = Number.parseInt(code.slice(2 * counter, 2 * counter + 2), 16)
    counter += opcode >= 0x60 && opcode <= 0x7f ? opcode - 0x5e : 1 // PUSHn carries n bytes
  }
}

function smallestAround(statements, start, end) {
  let best
  for (const statement of statements) {
    const around = statement.start <= start && end <= statement.end
    if (around && (!best || statement.end - statement.start < best.end - best.start)) {
      best = statement
    }
  }
  return best
}

// solc's compressed map, an entry an instruction; empty fields repeat the entry before.
function* entriesOf(map) {
  const entry = { start: -1, length: -1, file: -1 }
  for (const item of map.split(';')) {
    const [start, length, file] = item.split(':')
    if (start) entry.start = Number(start)
    if (length) entry.length = Number(length)
    if (file) entry.file = Number(file)
    yield entry
  }
}

export function printCoverage(report, print) {
  const totals = { lines: 0, covered: 0, statements: 0, ran: 0 }
  for (const [path, { lines, statements }] of Object.entries(report)) {
    const missed = [...lines].filter(([, covered]) => !covered).map(([line]) => line)
    const covered = lines.size - missed.length
    const ran = statements.filter((statement) => statement.ran).length
    print(`coverage ${path}: lines ${covered}/${lines.size}, statements ${ran}/${statements.length}` +
      (missed.length ? `, not covered: ${missed.sort((a, b) => a - b).join(' ')}` : ''))
    totals.lines += lines.size
    totals.covered += covered
    totals.statements += statements.length
    totals.ran += ran
  }
  const percent = (100 * totals.covered / totals.lines).toFixed(1)
  print(`coverage total: ${percent} % of lines (${totals.covered}/${totals.lines}), ` +
    `statements ${totals.ran}/${totals.statements}`)
  return totals
}
