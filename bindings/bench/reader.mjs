// As reader.cpp: reader.mjs PACKAGE text URL, tokens MODEL, late URL
import { readFileSync } from "node:fs";

const [, , entry, what, where] = process.argv;
const { DistributedModel, FarMesh } = await import(entry);
const ask = (model) => new FarMesh({ baseUrl: where, model }).generate("x");

async function computed(stream, cpuNs) {
  let pieces = 0;
  const began = cpuNs();
  for await (const _ of stream) ++pieces;
  return (cpuNs() - began) / pieces;
}

/** On the CPU so far, by the main thread, as of the scheduler's last look. */
const ownNs = () =>
  Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]);
/** By all threads, of which only the main one has something to do when tokens were made before. */
function allNs() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

async function tokens() {
  const model = await DistributedModel.open(where, { local: true });
  async function made() {
    const stream = await model.openSession({ bufferTokens: 500 })
      .generate("Once", { maxTokens: 400, ignoreEos: true });
    while (stream.usage.finishReason === "none") await new Promise((resolve) => setTimeout(resolve, 10));
    return stream;
  }
  // 20,000 pieces of text are enough for V8 to have compiled what reads them; 400 tokens are not.
  for (let i = 0; i < 5; ++i) await (await made()).text();
  return computed(await made(), allNs);
}

async function late() {
  const times = [];
  for await (const text of await ask("paced")) times.push(Number(process.hrtime.bigint() - BigInt(text)));
  return times.sort((a, b) => a - b)[times.length >> 1];
}

console.log(Math.round(what === "tokens" ? await tokens() : what === "late" ? await late()
  : await computed(await ask("m"), ownNs)));
