// The programs of docs/sdk-typescript.md, as they stand there.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const page = readFileSync(join(process.env.FARMESH_SOURCE, "docs/sdk-typescript.md"), "utf8");
export const snippets = page.match(/(?<=^```ts\n)[^]*?(?=^```)/gm);
assert.ok(snippets.length >= 5);
