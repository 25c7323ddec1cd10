// tests/sdk/scenarios.json in JavaScript, by fetch and by the native part, at a coordinator and over the
// peers themselves; and what else wants a mesh.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as sdk from "@farlabs/sdk";
import * as web from "@farlabs/sdk/web";
import { snippets } from "./docs.mjs";
import { startMesh } from "./mesh.mjs";

const source = process.env.FARMESH_SOURCE;
const { scenarios } = JSON.parse(readFileSync(join(source, "tests/sdk/scenarios.json")));
const allTold = {};
let mesh;

before(async () => { mesh = await startMesh(); });
after(() => mesh?.stop());

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

function ask(farMesh, scenario) {
  const options = Object.fromEntries(
    Object.entries(scenario.options).map(([name, value]) => [camel(name), value]));
  // JSON's reader has rounded it.
  if (scenario.name === "the largest seed") options.seed = 9223372036854775807n;
  if (scenario.generate) {
    return farMesh.generate(scenario.generate.repeat(scenario.repeat ?? 1), options);
  }
  return farMesh.chat(scenario.chat ?? scenario.messages, options);
}

async function play(farMesh, scenario, told, paid) {
  const { expect } = scenario;
  const stream = await ask(farMesh, scenario);
  if (expect.error) {
    for (let i = 0; i < 2; ++i) {
      await assert.rejects(stream.text(), (error) => {
        assert.ok(error instanceof sdk.FarMeshError, `${error}`);
        assert.deepEqual([error.kind, error.code], [expect.error, expect.code]);
        return true;
      });
    }
    return;
  }
  let text = "", pieces = 0;
  if (scenario.close_after === 0) stream.close();
  for await (const piece of stream) {
    assert.ok(piece);
    text += piece;
    if (++pieces === scenario.close_after) break;
    if (pieces === scenario.kill_after) await mesh.killAndStart();
  }
  told.set(scenario.name, text);
  const { usage } = stream;
  if (expect.tokens !== undefined) assert.equal(usage.tokens, expect.tokens);
  if (expect.finish) assert.equal(usage.finishReason, expect.finish);
  if (expect.cost_far) assert.equal(stream.costFar, paid ? expect.cost_far : "0");
  if (expect.same_as) assert.equal(text, told.get(expect.same_as));
  if (expect.starts_as) assert.ok(text.startsWith(told.get(expect.starts_as)));
  if (expect.without) assert.ok(text && !text.includes(expect.without));
  assert.equal(usage.resumed > 0, scenario.kill_after !== undefined);
  if (usage.finishReason !== "cancelled") {
    assert.ok(usage.promptTokens > 0 && usage.ttftMs > 0);
    assert.deepEqual(stream.nodesUsed.flatMap((node) => node.layers), [...Array(mesh.layers).keys()]);
  }
}

const ways = {
  "by fetch, at a coordinator": () => new web.FarMesh({ baseUrl: mesh.baseUrl, maxRetries: 20 }),
  "by the library, at a coordinator": () =>
    new sdk.FarMesh({ baseUrl: mesh.baseUrl, maxRetries: 20 }),
  "by the library, over the peers": () =>
    new sdk.FarMesh({ bootstrap: mesh.bootstrap, model: mesh.model }),
  "by the library, guessed ahead over the peers": () =>
    new sdk.FarMesh({ peers: mesh.peers, model: mesh.model, draftModel: mesh.model }),
};

test("there are scenarios for everything", () => assert.ok(scenarios.length >= 30));

for (const [way, connect] of Object.entries(ways)) {
  test(`every scenario holds ${way}`, async (t) => {
    const direct = way.endsWith("peers");
    const farMesh = connect();
    const told = allTold[way] = new Map();
    for (const scenario of scenarios.filter((each) => each.direct || !direct)) {
      const skip = scenario.kill_after && !mesh.killAndStart ? "there is no Redis here" : false;
      await t.test(scenario.name, { skip }, () => play(farMesh, scenario, told, !direct));
    }
  });
}

test("every way tells the same", () => {
  for (const name of ["text", "a stop string", "a chat", "a conversation", "a seed"]) {
    const texts = Object.values(allTold).map((told) => told.get(name));
    assert.ok(texts[0]);
    assert.deepEqual(new Set(texts).size, 1, name);
  }
});

/** What a program says on standard output; it must end well. */
async function run(program, cwd = new URL(".", import.meta.url)) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd,
    env: { ...process.env, FARLABS_BASE_URL: mesh.baseUrl }, stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (data) => (said += data));
  assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0);
  return said;
}

for (const snippet of snippets) {
  test("the docs' snippet runs", async () => {
    // The page's addresses and folders are ones that documents use.
    assert.ok(await run(snippet.replace('["203.0.113.7:31330"]', JSON.stringify(mesh.peers))
      .replaceAll('"models/demo"', JSON.stringify(mesh.model))
      .replace('"ledger.sqlite"', JSON.stringify(mesh.ledger))));
  });
}

test("nothing keeps a program from its end in mid-stream", async () => {
  assert.equal(await run(`
    import { FarMesh } from "@farlabs/sdk";
    const stream = await new FarMesh().generate("Once", { maxTokens: 400, ignoreEos: true });
    const first = await stream[Symbol.asyncIterator]().next();
    console.log(first.done);
  `), "false\n");
});

test("without its native part the same class speaks HTTP, and says what it cannot do", async () => {
  const folder = mkdtempSync(join(tmpdir(), "farmesh-web-"));
  const there = join(folder, "node_modules/@farlabs/sdk");
  mkdirSync(there, { recursive: true });
  writeFileSync(join(folder, "package.json"), "{}");
  for (const part of ["package.json", "esm", "native/binding.cjs"]) {
    cpSync(new URL(`../${part}`, import.meta.url), join(there, part), { recursive: true });
  }
  const [first, ...codes] = (await run(`
    import { ContributionLedger, DistributedModel, FarMesh, isNative, Peer } from "@farlabs/sdk";
    const stream = await new FarMesh().generate("Once upon a time", { maxTokens: 12, temperature: 0 });
    console.log(JSON.stringify([isNative, await stream.text(), stream.costFar]));
    for (const call of [() => new FarMesh({ local: true, model: "x" }), () => new FarMesh({ caFile: "x" }),
      () => DistributedModel.open("x"), () => Peer.start("x", [0, 1]), () => ContributionLedger.open("x")]) {
      await (async () => call())().catch((error) => console.log(error.code));
    }
  `, folder)).trim().split("\n");
  assert.deepEqual(JSON.parse(first), [false, allTold["by fetch, at a coordinator"].get("text"), "0.0012"]);
  assert.deepEqual(codes, Array(5).fill("engine_unavailable"));
  rmSync(folder, { recursive: true });
});

const isModule = process.features.require_module;
test("CommonJS has the same surface", () => {
  const required = createRequire(import.meta.url)("@farlabs/sdk");
  assert.equal(required.isNative, true);
  if (isModule) assert.equal(required.FarMesh, sdk.FarMesh);
  assert.deepEqual(Object.keys(required).sort(), Object.keys(sdk).sort());
});

for (const [name, { FarMesh }] of Object.entries({ web, sdk })) {
  test(`${name}: a web stream, an AbortSignal, models, status and earnings`, async () => {
    const farMesh = new FarMesh({ baseUrl: mesh.baseUrl });
    const options = { maxTokens: 8, temperature: 0, ignoreEos: true };
    const whole = await (await farMesh.generate("Once upon a time", options)).text();
    let text = "";
    const stream = await farMesh.generate("Once upon a time", options);
    for await (const piece of stream.toReadableStream()) text += piece;
    assert.equal(text, whole);
    const controller = new AbortController();
    const endless = await farMesh.generate("Once", { maxTokens: 400, ignoreEos: true,
      signal: controller.signal });
    for await (const _ of endless) controller.abort();
    assert.equal(endless.usage.finishReason, "cancelled");
    assert.deepEqual(await farMesh.models(), [
      { modelId: "org/demo", activeNodes: 2, pricePerTokenFar: "0.0001", available: true }]);
    assert.equal((await farMesh.status()).connected, true);
    await assert.rejects(farMesh.status("org/none"), { kind: "not_found" });
    const wallet = `0x${"0".repeat(39)}1`;
    const nobody = await farMesh.earnings(wallet);
    assert.deepEqual([nobody.totalTokensServed, nobody.history], [0, []]);
    assert.equal(nobody.walletAddress.toLowerCase(), wallet);
    await assert.rejects(farMesh.earnings("no/wallet"), { kind: "invalid_request" });
  });
}

test("a mesh of one process", async () => {
  const alone = new sdk.FarMesh({ local: true, model: mesh.model, threads: 1 });
  const stream = await alone.generate("Once upon a time", { maxTokens: 5, temperature: 0 });
  assert.ok(await stream.text());
  assert.equal(stream.costFar, "0");
  assert.deepEqual(stream.nodesUsed.map((node) => node.nodeId), ["local"]);
  await assert.rejects(alone.earnings("0x0"), { code: "unsupported" });
  await assert.rejects(new sdk.FarMesh({ local: true, model: "/nowhere" }).models(),
    { code: "model_not_found" });
});

test("streams that are read together", async () => {
  const farMesh = new sdk.FarMesh({ baseUrl: mesh.baseUrl });
  const texts = await Promise.all(Array.from({ length: 8 }, async () =>
    (await farMesh.generate("Once upon a time", { maxTokens: 8, temperature: 0 })).text()));
  assert.equal(new Set(texts).size, 1);
});
