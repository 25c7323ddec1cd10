// client.mjs PROGRAM MODEL: two nodes, a coordinator over them, and OpenAI's own client.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";

const [program, model] = process.argv.slice(2);
const layers = JSON.parse(readFileSync(join(model, "config.json"))).num_hidden_layers;
const folder = mkdtempSync(join(tmpdir(), "farmesh-openai-"));
const children = [];

// The program, once its first line says where it listens.
function start(...args) {
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, XDG_DATA_HOME: folder },
  });
  children.push(child);
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const found = /^listening on (\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    child.on("exit", (code) => reject(new Error(`${args[0]} ended with ${code}: ${errors}`)));
  });
}

// What a command of the program prints.
function run(...args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve) => {
    let said = "";
    child.stdout.on("data", (data) => (said += data));
    child.on("close", () => resolve(said.trim()));
  });
}

async function soon(holds) {
  for (let i = 0; i < 1000; ++i) {
    if (await holds()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

const half = layers >> 1;
const node = (span) => start("node", "--model", model, "--layers", span, "--listen",
  "127.0.0.1:0", "--threads", "1", "--ephemeral");

async function main() {
  const peers = await Promise.all([node(`0:${half}`), node(`${half}:${layers}`)]);
  const ledger = join(folder, "ledger.sqlite");
  const secret = await run("key", "create", "--url", ledger);
  const base = await start("coordinator", "--model", `org/demo=${model}`, "--port", "0",
    "--ledger", ledger, "--price", "0", "--threads", "1", ...peers.flatMap((at) => ["--peer", at]));
  const get = async (path) => (await fetch(base + path)).json();
  const client = new OpenAI({ apiKey: secret, baseURL: base + "/v1", maxRetries: 0 });
  const messages = [{ role: "user", content: "Tell me a story." }];
  const greedy = { model: "org/demo", temperature: 0, max_tokens: 12 };

  assert.deepEqual((await client.models.list()).data.map(({ id }) => id), ["org/demo"]);
  assert.equal((await client.models.retrieve("org/demo")).id, "org/demo");

  // A chat, whole and streamed: the same text.
  const whole = await client.chat.completions.create({ ...greedy, messages });
  const said = whole.choices[0].message.content;
  assert.equal(whole.object, "chat.completion");
  assert.ok(said.length > 0);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
  let streamed = "", usage = null, finish = null;
  for await (const chunk of await client.chat.completions.create({
    ...greedy, messages, stream: true, stream_options: { include_usage: true } })) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.equal(streamed, said);
  assert.equal(finish, whole.choices[0].finish_reason);
  assert.deepEqual(usage, whole.usage);

  // The client's own gathering of a stream.
  const final = await client.chat.completions.stream({ ...greedy, messages }).finalContent();
  assert.equal(final, said);

  // Log-probabilities: the greedy token is the likeliest.
  const scored = await client.chat.completions.create({
    ...greedy, messages, logprobs: true, top_logprobs: 3 });
  const content = scored.choices[0].logprobs.content;
  assert.equal(content.length, scored.usage.completion_tokens);
  for (const token of content) {
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.token, token.top_logprobs[0].token);
    assert.deepEqual([...Buffer.from(token.token)], token.bytes);
  }

  // Choices and seeds: equal seeds, equal texts.
  const drawn = { model: "org/demo", messages, n: 2, seed: 5, max_tokens: 12 };
  const first = await client.chat.completions.create(drawn);
  const second = await client.chat.completions.create(drawn);
  assert.deepEqual(first.choices, second.choices);
  assert.equal(first.choices.length, 2);
  assert.equal(first.system_fingerprint, second.system_fingerprint);

  // Completions: several prompts, stop strings, token log-probabilities.
  const both = await client.completions.create({
    ...greedy, prompt: ["Once upon", "A fox"], echo: true });
  assert.ok(both.choices[0].text.startsWith("Once upon"));
  assert.ok(both.choices[1].text.startsWith("A fox"));
  const plain = await client.completions.create({ ...greedy, prompt: "Once upon", logprobs: 2 });
  assert.equal(plain.choices[0].logprobs.tokens.length, plain.usage.completion_tokens);
  const stop = plain.choices[0].text.trim().split(/\s+/)[2];
  const stopped = await client.completions.create({ ...greedy, prompt: "Once upon", stop });
  assert.equal(stopped.choices[0].finish_reason, "stop");
  assert.ok(!stopped.choices[0].text.includes(stop));

  // Its error classes.
  const refused = (call, type, code) => assert.rejects(call, (error) => {
    assert.ok(error instanceof type, `${error}`);
    assert.equal(error.code, code);
    return true;
  });
  await refused(client.chat.completions.create({ ...greedy, messages, model: "other" }),
    OpenAI.NotFoundError, "model_not_found");
  await refused(client.chat.completions.create({ ...greedy, messages, temperature: 9 }),
    OpenAI.BadRequestError, "invalid_value");
  await refused(client.chat.completions.create({ ...greedy, messages,
    tools: [{ type: "function", function: { name: "f" } }] }),
    OpenAI.BadRequestError, "unsupported_parameter");
  for (const field of [{ store: true }, { response_format: { type: "json_object" } },
    { reasoning_effort: "low" }, { service_tier: "flex" }, { modalities: ["text", "audio"] }]) {
    await refused(client.chat.completions.create({ ...greedy, messages, ...field }),
      OpenAI.BadRequestError, "unsupported_parameter");
  }
  await refused(new OpenAI({ apiKey: "far_no", baseURL: base + "/v1" }).models.list(),
    OpenAI.AuthenticationError, "invalid_api_key");
  await refused(client.completions.create({ ...greedy, prompt: "a ".repeat(20_000) }),
    OpenAI.BadRequestError, "context_length_exceeded");

  // An aborted stream ends the work on the mesh, and its session is closed.
  const endless = await client.completions.create({
    model: "org/demo", prompt: "Once", max_tokens: 100_000, ignore_eos: true, stream: true });
  for await (const chunk of endless) {
    assert.ok(chunk.id);
    endless.controller.abort();
    break;
  }
  assert.ok(await soon(async () => (await get("/mesh/status")).active_sessions === 0));

  // One that is cancelled by the id of its answer, from elsewhere, says so.
  const watched = await client.chat.completions.create({
    model: "org/demo", messages, max_tokens: 100_000, ignore_eos: true, stream: true });
  let cancelled = null;
  await assert.rejects(async () => {
    for await (const chunk of watched) {
      assert.match(chunk.cost_far, /^\d+(\.\d+)?$/);
      cancelled ??= await fetch(`${base}/api/inference/${chunk.id}`, {
        method: "DELETE", headers: { Authorization: `Bearer ${secret}` } });
    }
  }, (error) => error instanceof OpenAI.APIError && error.code === "cancelled");
  assert.equal(cancelled.status, 200);
  assert.ok(await soon(async () => (await get("/mesh/status")).active_sessions === 0));

  // The platform's own form, with its exact fields.
  const answer = await fetch(base + "/inference/generate", {
    method: "POST",
    headers: { Authorization: `Bearer ${secret}` },
    body: JSON.stringify({ prompt: "Once", max_tokens: 3, temperature: 0, request_id: "r1" }),
  });
  const events = (await answer.text()).split("\n\n").filter((event) => event.startsWith("data: "))
    .map((event) => JSON.parse(event.split("\n")[0].slice(6)));
  for (const [i, event] of events.slice(0, -1).entries()) {
    assert.deepEqual(Object.keys(event), ["token", "request_id", "tokens_generated", "cost_far"]);
    assert.equal(event.tokens_generated, i + 1);
  }
  assert.equal(events.at(-1).done, true);
  assert.equal(events.at(-1).total_tokens, events.length - 1);
  assert.equal((await get("/ready")).status, "ready");
  assert.equal((await get("/mesh/status")).active_nodes, 2);
  console.log("the unmodified client is served: chat, completions, streams, errors");
}

let failure = null;
await main().catch((error) => (failure = error));
for (const child of children) child.removeAllListeners("exit").kill("SIGKILL");
rmSync(folder, { recursive: true, force: true });
if (failure) {
  console.error(failure);
  process.exit(1);
}
process.exit(0);
