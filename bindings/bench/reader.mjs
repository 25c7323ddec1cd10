// As reader.cpp: nanoseconds of the reading thread for each piece. reader.mjs PACKAGE URL [MODEL]
import { readFileSync } from "node:fs";

const [, , entry, baseUrl, folder] = process.argv;
const { DistributedModel, FarMesh } = await import(entry);
// On the CPU so far: by the main thread as of the scheduler's last look, or, while tokens are read that were
// made before, by all of them, of which only this one has something to do.
function cpuNs() {
  if (!folder) return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]);
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

const model = folder && await DistributedModel.open(folder, { local: true });
async function tokens() {
  const made = await model.openSession({ bufferTokens: 500 })
    .generate("Once", { maxTokens: 400, ignoreEos: true });
  while (made.usage.finishReason === "none") await new Promise((resolve) => setTimeout(resolve, 10));
  return made;
}
// The 20,000 pieces of text are enough for V8 to have compiled what reads them; 400 tokens are not.
for (let i = 0; folder && i < 5; ++i) await (await tokens()).text();

const stream = folder ? await tokens() : await new FarMesh({ baseUrl, model: "m" }).generate("x");
let pieces = 0;
const began = cpuNs();
for await (const _ of stream) ++pieces;
console.log(Math.round((cpuNs() - began) / pieces));
