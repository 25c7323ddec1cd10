// web.test.mjs: tests/sdk/scenarios.json in JavaScript, at a coordinator, and servers that lie.
// FARMESH_PROGRAM and FARMESH_MODEL say what to start, FARMESH_SOURCE where the scenarios are.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { FarMesh, FarMeshError } from "@farlabs/sdk/web";

const { FARMESH_PROGRAM: program, FARMESH_MODEL: model, FARMESH_SOURCE: source } = process.env;
const { scenarios } = JSON.parse(readFileSync(join(source, "tests/sdk/scenarios.json")));
const folder = mkdtempSync(join(tmpdir(), "farmesh-sdk-"));
const layers = JSON.parse(readFileSync(join(model, "config.json"))).num_hidden_layers;
const children = [];
let baseUrl;

function start(...args) {
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, XDG_DATA_HOME: folder, LOG_LEVEL: "warning" },
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const found = /^listening on (\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    child.on("exit", (code) => reject(new Error(`${args[0]} ended with ${code}`)));
  });
}

before(async () => {
  const half = layers >> 1;
  const node = (span) => start("node", "--model", model, "--layers", span, "--listen",
    "127.0.0.1:0", "--threads", "1", "--ephemeral");
  const peers = await Promise.all([node(`0:${half}`), node(`${half}:${layers}`)]);
  baseUrl = await start("coordinator", "--model", `org/demo=${model}`, "--port", "0", "--ledger",
    join(folder, "ledger.sqlite"), "--public-budget", "1000", "--public-rate", "0", "--threads", "1",
    ...peers.flatMap((at) => ["--peer", at]));
});

after(() => {
  for (const child of children) child.removeAllListeners("exit").kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

function ask(mesh, scenario) {
  const options = Object.fromEntries(
    Object.entries(scenario.options).map(([name, value]) => [camel(name), value]));
  // JSON's reader has rounded it.
  if (scenario.name === "the largest seed") options.seed = 9223372036854775807n;
  if (scenario.generate) {
    return mesh.generate(scenario.generate.repeat(scenario.repeat ?? 1), options);
  }
  return mesh.chat(scenario.chat ?? scenario.messages, options);
}

test("every scenario holds at a coordinator", async (t) => {
  const mesh = new FarMesh({ baseUrl });
  const told = new Map();
  for (const scenario of scenarios) {
    await t.test(scenario.name, async () => {
      const { expect } = scenario;
      const stream = await ask(mesh, scenario);
      if (expect.error) {
        for (let i = 0; i < 2; ++i) {
          await assert.rejects(stream.text(), (error) => {
            assert.ok(error instanceof FarMeshError, `${error}`);
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
      }
      told.set(scenario.name, text);
      const { usage } = stream;
      if (expect.tokens !== undefined) assert.equal(usage.tokens, expect.tokens);
      if (expect.finish) assert.equal(usage.finishReason, expect.finish);
      if (expect.cost_far) assert.equal(stream.costFar, expect.cost_far);
      if (expect.same_as) assert.equal(text, told.get(expect.same_as));
      if (expect.starts_as) assert.ok(text.startsWith(told.get(expect.starts_as)));
      if (expect.without) assert.ok(text && !text.includes(expect.without));
      if (usage.finishReason !== "cancelled") {
        assert.ok(usage.promptTokens > 0);
        assert.deepEqual(stream.nodesUsed.flatMap((node) => node.layers),
          [...Array(layers).keys()]);
      }
    });
  }
});

const PRODUCT_PAGE = `
import { FarMesh } from "@farlabs/sdk";

const mesh = new FarMesh({ apiKey: "your-api-key" });

for await (const token of await mesh.chat("Explain quantum computing")) {
  process.stdout.write(token);
}
`;
const PAGE = new URL("docs/sdk-typescript.md", `file://${source}/`);
const snippets = readFileSync(PAGE, "utf8").match(/(?<=^```ts\n)[^]*?(?=^```)/gm);

for (const [i, snippet] of [PRODUCT_PAGE, ...snippets].entries()) {
  test(i === 0 ? "the product page's snippet streams" : "the docs' snippet runs", async () => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", snippet],
      { env: { ...process.env, FARLABS_BASE_URL: baseUrl }, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (data) => (said += data));
    const code = await new Promise((resolve) => child.on("close", resolve));
    assert.equal(code, 0);
    assert.ok(said);
  });
}

const withoutRequire = process.features.require_module ? false : "needs node 20.19";
test("CommonJS has the same class", { skip: withoutRequire }, () => {
  assert.equal(createRequire(import.meta.url)("@farlabs/sdk").FarMesh, FarMesh);
});

test("a web stream, an AbortSignal, models and status", async () => {
  const mesh = new FarMesh({ baseUrl });
  const options = { maxTokens: 8, temperature: 0, ignoreEos: true };
  const whole = await (await mesh.generate("Once upon a time", options)).text();
  let text = "";
  for await (const piece of (await mesh.generate("Once upon a time", options)).toReadableStream()) {
    text += piece;
  }
  assert.equal(text, whole);
  const controller = new AbortController();
  const endless = await mesh.generate("Once", { maxTokens: 400, ignoreEos: true,
    signal: controller.signal });
  for await (const _ of endless) controller.abort();
  assert.equal(endless.usage.finishReason, "cancelled");
  assert.deepEqual(await mesh.models(), [
    { modelId: "org/demo", activeNodes: 2, pricePerTokenFar: "0.0001", available: true }]);
  assert.equal((await mesh.status()).connected, true);
  await assert.rejects(mesh.status("org/none"), { kind: "not_found" });
});

// --- servers that lie

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const piece = (n, text) =>
  `data: ${JSON.stringify({ id: "r", choices: [{ text }] })}\nid: r:${n}\n\n`;
const ending = (n) => `data: {"choices":[{"text":"","finish_reason":"stop"}]}\nid: r:${n}\n\n` +
  `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"cost_far":"0.00000001"}}` +
  `\nid: r:${n + 1}\n\ndata: [DONE]\n\n`;
const refusal = (status, code, headers = "") => `HTTP/1.1 ${status}\r\nConnection: close\r\n` +
  `${headers}\r\n{"error":{"message":"No.","code":"${code}"}}`;

/** What is said to a server of these answers, and what the client makes of them. */
async function tell(...answers) {
  const requests = [];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (data) => {
      requests.push(`${data}`);
      socket.end(answers.shift() ?? "");
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const stream = await new FarMesh({ baseUrl: url, model: "m", maxRetries: 2 }).generate("x");
  const outcome = await stream.text().catch((error) => error);
  server.close();
  return { outcome, requests, usage: stream.usage };
}

test("a stream that breaks goes on where it broke, and repeats nothing", async () => {
  const { outcome, requests, usage } = await tell(HEAD + piece(1, "Once"),
    HEAD + piece(2, " upon").slice(0, 20), HEAD + piece(2, " upon") + ending(3));
  assert.equal(outcome, "Once upon");
  assert.equal(usage.costFar, "0.00000001");
  assert.equal(usage.resumed, 2);
  assert.match(requests[2], /last-event-id: r:1\r\n/i);
});

test("refusals keep their kind, code, id and time to wait", async () => {
  const { outcome } = await tell(refusal("402 Payment Required", "insufficient_credit",
    "X-Request-Id: x7\r\n"));
  assert.deepEqual([outcome.kind, outcome.code, outcome.requestId, outcome.status],
    ["payment_required", "insufficient_credit", "x7", 402]);
  const limited = "429 Too Many Requests";
  assert.equal((await tell(refusal(limited, "rate_limit_exceeded", "Retry-After: 0\r\n"),
    HEAD + piece(1, "Once") + ending(2))).outcome, "Once");
  assert.equal((await tell(refusal(limited, "rate_limit_exceeded", "Retry-After: 3600\r\n")))
    .outcome.retryAfter, 3600);
});

test("what is no stream, no JSON or no UTF-8 is refused", async () => {
  for (const lie of [refusal("200 OK", "x"), `${HEAD}data: {\n\n`, `${HEAD}data: 7\n\n`,
    Buffer.concat([Buffer.from(`${HEAD}data: {"choices":[{"text":"`), Buffer.from([0xe2, 0x82]),
      Buffer.from(`"}]}\n\n`)])]) {
    assert.equal((await tell(lie)).outcome.code, "bad_http");
  }
  const { outcome } = await tell(HEAD + piece(1, "Once"), refusal("404 Not Found", "stream_not_found"));
  assert.deepEqual([outcome.code, outcome.requestId], ["connection_lost", "r"]);
  assert.throws(() => new FarMesh({ apiKey: "far_x\nX-Evil: 1" }), { kind: "invalid_request" });
});
