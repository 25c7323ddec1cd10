// The library's own types: models, sessions, hidden states, peers and the ledger.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  ContributionLedger, DistributedModel, FarMesh, FarMeshError, Peer, TokenStream,
} from "@farlabs/sdk";
import { startMesh } from "./mesh.mjs";

const TEXT = "Once upon a time there was a fox who";
let mesh;

before(async () => { mesh = await startMesh(); });
after(() => mesh?.stop());

const open = (options = {}) =>
  DistributedModel.open(mesh.model, { local: true, threads: 1, ...options });
const bits = ({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
const refused = (code) => (error) => error instanceof FarMeshError && error.code === code;

test("a model tells what it is and its tokens", async () => {
  const model = await open();
  const info = await model.info();
  assert.deepEqual([info.numLayers, info.peers], [mesh.layers, []]);
  const ids = model.encode("Once upon a time");
  assert.equal(model.decode(ids).trim(), "Once upon a time");
  assert.equal(Buffer.concat(ids.map((id) => model.tokenBytes(id))).toString().trim(),
    "Once upon a time");
  await assert.rejects(DistributedModel.open("/nowhere", { local: true }), refused("model_not_found"));
  for (const wrong of [() => model.encode(7), () => model.decode("x"), () => model.decode([1.5])]) {
    assert.throws(wrong, TypeError);
  }
  await assert.rejects(DistributedModel.open(7), TypeError);
  await assert.rejects(open({ precision: "f64" }), TypeError);
});

test("a session keeps its text and tells its tokens", async () => {
  const model = await open();
  const session = model.openSession();
  const stream = await session.generate("Once upon a time",
    { maxTokens: 6, temperature: 0, topLogprobs: 2 });
  const tokens = [];
  for await (const token of stream) tokens.push(token);
  assert.equal(tokens.length, 6);
  assert.ok(tokens.every(({ id, logprob, top }) => logprob <= 0 && top.length === 2 && top[0].id === id));
  assert.deepEqual([stream.usage.tokens, stream.usage.finishReason], [6, "length"]);
  assert.deepEqual(stream.usage.hops[0].layers, [0, mesh.layers]);
  assert.deepEqual((await session.ids()).slice(-6), tokens.map((token) => token.id));
  const again = await model.openSession().generateIds(model.encode("Once upon a time"),
    { maxTokens: 6, temperature: 0 });
  assert.equal(await again.text(), tokens.map((token) => token.text).join(""));
  const reply = await session.chat([{ role: "user", content: "Hello" }],
    { maxTokens: 3, ignoreEos: true });
  assert.ok(reply instanceof TokenStream);
  await reply.text();
  assert.equal(reply.usage.tokens, 3);
});

test("a turn is cancelled in every way, and the session goes on", async () => {
  const session = (await open()).openSession({ bufferTokens: 1 });
  const long = { maxTokens: 300, ignoreEos: true };
  for (const end of [(stream) => stream.cancel(), (_, by) => by.abort(), () => {}]) {
    const controller = new AbortController();
    const stream = await session.generate("Once", { ...long, signal: controller.signal });
    for await (const _ of stream) {
      end(stream, controller);
      break;
    }
    assert.equal(stream.usage.finishReason, "cancelled");
    stream.cancel();
  }
  assert.equal(await (await session.generate("x", { signal: AbortSignal.abort() })).text(), "");
  const { signal } = new AbortController();
  await session.generate("Once", { ...long, signal });  // and is forgotten
  let more, told;
  for (let i = 0; i < 2000 && told === undefined; ++i) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
    more = await session.generate("Again", { maxTokens: 2, ignoreEos: true });
    told = await more.text().catch((error) => assert.equal(error.code, "busy"));
  }
  assert.equal(more.usage.tokens, 2);
  for (const wrong of [{ maxTokens: "many" }, { stop: [7] }, { topLogprobs: -1 },
    { maxDraft: "many" }]) {
    await assert.rejects(session.generate("x", wrong), TypeError);
  }
  await assert.rejects((await session.generate("x", { temperature: -1 })).text(),
    refused("invalid_argument"));
});

test("what a draft model guesses changes no token", async () => {
  const options = { maxTokens: 24, temperature: 1, seed: 7, ignoreEos: true };
  const ids = async (model, more) => {
    const tokens = [];
    const stream = await model.openSession().generate("The fox", { ...options, ...more });
    for await (const token of stream) tokens.push(token.id);
    return tokens;
  };
  const ahead = await open({ draftModel: mesh.model });
  assert.deepEqual(await ids(ahead, { maxDraft: 8 }), await ids(await open()));
  await assert.rejects(open({ draftModel: "/nowhere" }), refused("model_not_found"));
});

test("over three peers hidden states are bit for bit those of one process", async () => {
  for (const precision of ["f32", "bf16"]) {
    const here = await open({ precision });
    const info = await here.info();
    const states = await here.embed(here.encode(TEXT));
    assert.equal(states.dtype, info.hiddenDtype);
    assert.deepEqual(states.shape, [here.encode(TEXT).length, info.hiddenSize]);
    assert.ok(states.data instanceof (precision === "f32" ? Float32Array : Uint16Array));
    const expected = await here.openHiddenSession().run(states);
    const third = mesh.layers / 3;
    const peers = await Promise.all([0, 1, 2].map((i) => Peer.start(mesh.model,
      [i * third, (i + 1) * third], { threads: 1, precision })));
    const there = await DistributedModel.open(mesh.model,
      { peers: peers.map((peer) => peer.address), threads: 1, precision });
    const session = there.openHiddenSession();
    const out = await session.run(states);
    assert.equal(bits(out), bits(expected));
    assert.deepEqual((await session.hops()).map((hop) => hop.peer), peers.map((peer) => peer.address));
    assert.ok((await peers[0].stats()).rows > 0);

    const logits = await here.logits(out);
    const last = [...logits.data.slice(-info.vocabSize)];
    const stream = await here.openSession().generate(TEXT, { maxTokens: 1, temperature: 0 });
    for await (const token of stream) assert.equal(last.indexOf(Math.max(...last)), token.id);

    await session.truncate(2);
    assert.equal(session.position, 2);
    const rest = { ...states, shape: [1, info.hiddenSize],
      data: states.data.subarray(2 * info.hiddenSize, 3 * info.hiddenSize) };
    assert.equal(bits(await session.run(rest)), bits({
      data: out.data.subarray(2 * info.hiddenSize, 3 * info.hiddenSize) }));
    await Promise.all(peers.map((peer) => peer.stop()));
  }
});

test("what are no hidden states is refused clearly", async () => {
  const model = await open({ precision: "f32" });
  const { hiddenSize } = await model.info();
  const session = model.openHiddenSession({ contextTokens: 4 });
  const zeros = (rows, columns = hiddenSize, Kind = Float32Array) =>
    ({ dtype: "f32", shape: [rows, columns], data: new Kind(rows * columns) });
  for (const wrong of [null, 7, {}, { shape: [1], data: new Float32Array(1) },
    zeros(1, hiddenSize, Float64Array), { shape: [1.5, 2], data: new Float32Array(3) },
    { shape: [1, hiddenSize], data: [] }]) {
    await assert.rejects(session.run(wrong), TypeError);
    await assert.rejects(model.logits(wrong), TypeError);
  }
  for (const wrong of [zeros(1, hiddenSize + 1), zeros(0), zeros(1, hiddenSize, Uint16Array),
    { ...zeros(1), shape: [2, hiddenSize] }, { ...zeros(1), data: new Float32Array(hiddenSize).fill(NaN) }]) {
    await assert.rejects(session.run(wrong), refused("invalid_argument"));
  }
  await assert.rejects(session.run(zeros(5)), refused("context_exceeded"));
  await assert.rejects(session.truncate(1), refused("invalid_argument"));
  await assert.rejects(model.embed([]), refused("invalid_argument"));
  await assert.rejects(async () => model.embed(["x"]), TypeError);
  assert.equal(session.position, 0);
  assert.deepEqual((await session.run(zeros(2))).shape, [2, hiddenSize]);
});

test("the ledger knows what a stream cost", async () => {
  const stream = await new FarMesh({ baseUrl: mesh.baseUrl }).generate("Once upon a time",
    { maxTokens: 7, temperature: 0 });
  await stream.text();
  const ledger = await ContributionLedger.open(mesh.ledger);
  const session = await ledger.sessionOfRequest(stream.requestId);
  assert.equal(session.tokensGenerated, 7);
  assert.equal(session.totalCostFar, stream.costFar);
  assert.equal(session.contributions.length, 2);
  assert.deepEqual((await ledger.session(session.sessionId)), session);
  assert.deepEqual((await ledger.audit()).findings, []);
  await assert.rejects(ledger.session("none"), refused("not_found"));
});
