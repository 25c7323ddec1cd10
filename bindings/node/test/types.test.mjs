// What the package tells a strict tsc: its users' programs, those of the docs, ES modules and CommonJS.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { snippets } from "./docs.mjs";

const { FARMESH_TSC: tsc } = process.env;
const here = fileURLToPath(new URL(".", import.meta.url));
const skip = !existsSync(tsc) && "there is no tsc";

test("programs compile against the package's types, strictly", { skip }, () => {
  const folder = join(here, "snippets");  // inside the package its name is known
  mkdirSync(folder, { recursive: true });
  const files = snippets.map((snippet, i) => {
    const file = join(folder, `${i}.mts`);
    writeFileSync(file, `declare const process: { stdout: { write(text: string): void } };\n${snippet}`);
    return file;
  });
  const strict = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess",
    "--target", "ES2022", "--module", "node16", "--typeRoots", join(here, "none"),
    "--lib", "ES2022,DOM,DOM.Iterable,DOM.AsyncIterable"];
  const { status, stdout } = spawnSync(process.execPath,
    [tsc, ...strict, join(here, "typed.mts"), join(here, "typed.cts"), ...files], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
  rmSync(folder, { recursive: true });
});
