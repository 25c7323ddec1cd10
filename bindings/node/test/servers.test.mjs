// Servers that break, refuse, lie or say nothing, by fetch and by the native part.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { getEventListeners, setMaxListeners } from "node:events";
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import * as sdk from "@farlabs/sdk";
import * as web from "@farlabs/sdk/web";

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const piece = (n, text) =>
  `data: ${JSON.stringify({ id: "r", choices: [{ text }] })}\nid: r:${n}\n\n`;
const ending = (n) => `data: {"choices":[{"text":"","finish_reason":"stop"}]}\nid: r:${n}\n\n` +
  `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"cost_far":"0.00000001"}}` +
  `\nid: r:${n + 1}\n\ndata: [DONE]\n\n`;
const refusal = (status, code, headers = "") => `HTTP/1.1 ${status}\r\nConnection: close\r\n` +
  `${headers}\r\n{"error":{"message":"No.","code":"${code}"}}`;

/**
 * A server of these answers, one a connection; those after the last are never answered. What is in an
 * array is said, and the connection left open.
 */
async function serve(...answers) {
  const requests = [];
  const open = new Set();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {}).on("close", () => open.delete(socket));
    socket.once("data", (data) => {
      requests.push(`${data}`);
      const answer = answers.shift();
      if (Array.isArray(answer)) socket.write(answer[0]);
      else if (answer) socket.end(answer);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.close();
    for (const socket of open) socket.destroy();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, requests, open, close };
}

for (const [name, { FarMesh, FarMeshError }] of Object.entries({ web, sdk })) {
  /** What is said to a server of these answers, and what the client makes of them. */
  async function tell(...answers) {
    const server = await serve(...answers);
    const mesh = new FarMesh({ baseUrl: server.url, model: "m", maxRetries: 2 });
    const stream = await mesh.generate("x");
    const outcome = await stream.text().catch((error) => error);
    server.close();
    return { outcome, requests: server.requests, usage: stream.usage };
  }

  test(`${name}: a stream that breaks goes on where it broke, and repeats nothing`, async () => {
    const { outcome, requests, usage } = await tell(HEAD + piece(1, "Once"),
      HEAD + piece(2, " upon").slice(0, 20), HEAD + piece(2, " upon") + ending(3));
    assert.equal(outcome, "Once upon");
    assert.equal(usage.costFar, "0.00000001");
    assert.equal(usage.resumed, 2);
    assert.match(requests[2], /last-event-id: r:1\r\n/i);
  });

  test(`${name}: refusals keep their kind, code, id and time to wait`, async () => {
    const { outcome } = await tell(refusal("402 Payment Required", "insufficient_credit",
      "X-Request-Id: x7\r\n"));
    assert.ok(outcome instanceof FarMeshError);
    assert.deepEqual([outcome.kind, outcome.code, outcome.requestId, outcome.status],
      ["payment_required", "insufficient_credit", "x7", 402]);
    const limited = "429 Too Many Requests";
    assert.equal((await tell(refusal(limited, "rate_limit_exceeded", "Retry-After: 0\r\n"),
      HEAD + piece(1, "Once") + ending(2))).outcome, "Once");
    assert.equal((await tell(refusal(limited, "rate_limit_exceeded", "Retry-After: 3600\r\n")))
      .outcome.retryAfter, 3600);
  });

  test(`${name}: what is no stream, no JSON or no UTF-8 is refused`, async () => {
    for (const lie of [refusal("200 OK", "x"), `${HEAD}data: {\n\n`, `${HEAD}data: 7\n\n`,
      Buffer.concat([Buffer.from(`${HEAD}data: {"choices":[{"text":"`), Buffer.from([0xe2, 0x82]),
        Buffer.from(`"}]}\n\n`)])]) {
      assert.equal((await tell(lie)).outcome.code, "bad_http");
    }
    const { outcome } = await tell(HEAD + piece(1, "Once"), refusal("404 Not Found", "stream_not_found"));
    assert.deepEqual([outcome.code, outcome.requestId], ["connection_lost", "r"]);
  });

  test(`${name}: what cannot be sent is refused at once`, async () => {
    for (const options of [{ apiKey: "far_x\nX-Evil: 1" }, { apiKey: "klíč" }, { baseUrl: "ftp://x" },
      { timeout: 0 }, { maxRetries: -1 }]) {
      assert.throws(() => new FarMesh(options), { kind: "invalid_request", code: "invalid_argument" });
    }
    const mesh = new FarMesh({ baseUrl: "http://127.0.0.1:9", model: "m" });
    for (const wrong of [() => mesh.generate(7), () => mesh.chat(), () => mesh.chat({}),
      () => mesh.earnings(7)]) {
      await assert.rejects(wrong, TypeError);
    }
  });

  test(`${name}: amounts are exact, however many digits they have`, async () => {
    const earned = `{"wallet_address":"0x1","total_earned_far":12345678901.00000001,` +
      `"total_tokens_served":7,"active_nodes":1,"avg_uptime_percent":99.5,` +
      `"pending_payout_far":0.1,"earnings_history":[{"date":"2026-11-23","amount_far":0.00000001}]}`;
    const server = await serve(`HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${earned}`);
    assert.deepEqual(await new FarMesh({ baseUrl: server.url }).earnings("0x1"), {
      walletAddress: "0x1", totalEarnedFar: "12345678901.00000001", pendingPayoutFar: "0.1",
      totalTokensServed: 7, activeNodes: 1, avgUptimePercent: 99.5,
      history: [{ date: "2026-11-23", amountFar: "0.00000001" }],
    });
    server.close();
  });

  test(`${name}: silence ends a stream, and so does its reader: before, during and after`, async () => {
    const server = await serve();
    const ask = (options) => new FarMesh({ baseUrl: server.url, model: "m", ...options }).generate("x");
    await assert.rejects((await ask({ timeout: 50, maxRetries: 0 })).text(), { kind: "timeout" });
    const stream = await ask();
    const text = stream.text();
    stream.close();
    stream.close();
    assert.equal(await text, "");
    assert.equal(stream.usage.finishReason, "cancelled");
    assert.equal(await stream.text(), "");
    stream.close();
    server.close();
  });
}

for (const [name, { FarMesh }] of Object.entries({ web, sdk })) {
  test(`${name}: streams that were begun and forgotten end, whatever signal they had`, async () => {
    const { signal } = new AbortController();
    setMaxListeners(50, signal);
    const server = await serve(...Array(50).fill([HEAD + piece(1, "Once")]));
    const mesh = new FarMesh({ baseUrl: server.url, model: "m" });
    async function begin() {
      const stream = await mesh.generate("x", { signal });
      assert.deepEqual(await stream[Symbol.asyncIterator]().next(), { value: "Once", done: false });
    }
    await Promise.all(Array.from({ length: 50 }, begin));
    assert.equal(server.requests.length, 50);
    const left = () => [server.open.size, getEventListeners(signal, "abort").length];
    for (let i = 0; i < 2000 && left().some((count) => count > 0); ++i) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.deepEqual(left(), [0, 0]);
    server.close();
  });

  test(`${name}: a signal keeps nothing of the streams that have ended`, async () => {
    const { signal } = new AbortController();
    const answer = HEAD + piece(1, "Once") + ending(2);
    const server = await serve(answer, answer);  // either may be connected first
    const mesh = new FarMesh({ baseUrl: server.url, model: "m" });
    const [whole, closed] = [await mesh.generate("x", { signal }), await mesh.generate("x", { signal })];
    assert.equal(getEventListeners(signal, "abort").length, 2);
    assert.equal(await whole.text(), "Once");
    closed.close();
    assert.equal(getEventListeners(signal, "abort").length, 0);
    server.close();
  });
}

test("1,000 streams opened and dropped leave no thread, connection or memory", async () => {
  const server = await serve();
  const threads = () => readdirSync("/proc/self/task").length;
  const mesh = new sdk.FarMesh({ baseUrl: server.url, model: "m" });
  await mesh.generate("x").then((stream) => stream.close());
  const before = threads();
  async function openAndDrop(hundreds) {
    for (let i = 0; i < hundreds; ++i) {
      await Promise.all(Array.from({ length: 100 }, () => mesh.generate("x")));
      globalThis.gc();
      await new Promise(setImmediate);  // what was collected is destroyed
    }
    for (let i = 0; i < 2000 && (threads() > before || server.open.size > 0); ++i) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  await openAndDrop(3);
  const warm = process.memoryUsage().rss;
  await openAndDrop(10);
  assert.ok(threads() <= before, `${threads()} threads, ${before} before`);
  assert.equal(server.open.size, 0);
  // 8 KiB each would be 8 MiB; allocators keep a little of what they once had.
  const kept = process.memoryUsage().rss - warm;
  assert.ok(kept < 6 << 20, `${kept} bytes`);
  server.close();
});

test("an answer that is not even connected yet can be closed", async () => {
  // Its queue is full: the system answers nobody any more.
  const deaf = spawn("python3", ["-c", `
import socket, sys
server = socket.create_server(("127.0.0.1", 0), backlog=0)
crowd = [socket.socket() for _ in range(4)]
for one in crowd:
    one.setblocking(False)
    one.connect_ex(server.getsockname())
print(server.getsockname()[1], flush=True)
sys.stdin.read()
`], { stdio: ["pipe", "pipe", "inherit"] });
  const port = await new Promise((resolve) => deaf.stdout.once("data", (data) => resolve(`${data}`.trim())));
  for (const { FarMesh } of [sdk, web]) {
    const stream = await new FarMesh({ baseUrl: `http://127.0.0.1:${port}`, model: "m" }).generate("x");
    const text = stream.text();
    stream.close();
    stream.close();
    assert.equal(await text, "");
    assert.equal(stream.usage.finishReason, "cancelled");
  }
  deaf.stdin.end();
});

test("the values of the native part's options are checked", async () => {
  const mesh = new sdk.FarMesh({ baseUrl: "http://127.0.0.1:9", model: "m" });
  for (const options of [{ maxTokens: -1 }, { maxTokens: 1.5 }, { maxTokens: "many" }, { stop: [7] },
    { temperature: "hot" }, { seed: 1n << 70n }, { logitBias: { a: 1 } }, { maxCostFar: "much" },
    { ignoreEos: 1 }]) {
    await assert.rejects(mesh.generate("x", options), TypeError, JSON.stringify(Object.keys(options)));
  }
  await assert.rejects(mesh.chat([7]), TypeError);
  assert.throws(() => new sdk.FarMesh({ peers: ["127.0.0.1:1"] }), TypeError);
  assert.throws(() => new sdk.FarMesh({ peers: ["127.0.0.1:1"], model: "m", apiKey: "x" }), TypeError);
});
