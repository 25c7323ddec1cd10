#!/usr/bin/env node
// A signer outside the payer's process, as `farmesh payout --signer` calls it:
//
//   signer.mjs KIND FILE      prints the signature of keccak256(FILE's bytes) in hex
//
// Signs transactions to FARMESH_SIGN_FOR only, which it reads by itself, with the key in the file
// FARMESH_KEY_FILE: the program that asks never sees it. Notes what it signed in FARMESH_SIGNED.
import { appendFileSync, readFileSync } from 'node:fs'
import { keccak256, parseTransaction, toHex } from 'viem'
import { sign } from 'viem/accounts'

const [kind, file] = process.argv.slice(2)
const preimage = toHex(readFileSync(file))
const { to } = kind === 'transaction' ? parseTransaction(preimage) : {}
if (to?.toLowerCase() !== process.env.FARMESH_SIGN_FOR.toLowerCase()) {
  console.error(`signer: no ${kind} to ${to}`)
  process.exit(1)
}
const privateKey = `0x${readFileSync(process.env.FARMESH_KEY_FILE, 'utf8').trim()}`
appendFileSync(process.env.FARMESH_SIGNED, `${kind}\n`)
console.log(await sign({ hash: keccak256(preimage), privateKey, to: 'hex' }))
