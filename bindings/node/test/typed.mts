// What tsc knows of the package, as ES modules see it; types.test.mjs asks it. Nothing here is run.
import {
  ContributionLedger, DistributedModel, FarMesh, FarMeshError, FarStream, Peer, TokenStream, isNative,
  type AskOptions, type Audit, type Earnings, type FailureKind, type Model, type NodeUse, type Rows,
  type Status, type Token, type Usage,
} from "@farlabs/sdk";
import * as web from "@farlabs/sdk/web";

type Equal<A, B> = (<T,>() => T extends A ? 1 : 2) extends <T,>() => T extends B ? 1 : 2 ? true : false;
/** Does not compile unless `value` is exactly a T. */
const is = <T,>() => <U,>(value: U, ..._: Equal<T, U> extends true ? [] : [never]) => value;

const mesh = new FarMesh({ apiKey: "key", baseUrl: "", timeout: 1, connectTimeout: 1, caFile: "x" });
new FarMesh({ bootstrap: "/ip4/127.0.0.1/tcp/31337", model: "folder", draftModel: "other" });
new web.FarMesh({ apiKey: "key" }) satisfies { chat: typeof mesh.chat; generate: typeof mesh.generate };

const { signal } = new AbortController();
const options: AskOptions = { maxTokens: 3, stop: ["."], seed: 7n, maxCostFar: "0.1", signal };
const stream = is<FarStream>()(await mesh.chat("Hello", options));
for await (const text of stream) is<string>()(text);
is<string>()(await stream.text());
is<Usage>()(stream.usage);
is<string | null>()(stream.costFar);
is<NodeUse[]>()(stream.nodesUsed);
is<ReadableStream<string>>()(stream.toReadableStream());
await mesh.chat([{ role: "user", content: "Hello" }]);

// @ts-expect-error
await mesh.chat("Hello", { maxTokens: "many" });
// @ts-expect-error
await mesh.chat("Hello", { tokens: 1 });
// @ts-expect-error
await mesh.generate(7);
// @ts-expect-error
await mesh.chat([{ role: "user" }]);
// @ts-expect-error
new web.FarMesh({ peers: [] });

is<Model[]>()(await mesh.models());
is<Status>()(await mesh.status());
is<Earnings>()(await mesh.earnings("0x0"));
is<boolean>()(isNative);
try {
  await stream.text();
} catch (error) {
  if (error instanceof FarMeshError) {
    is<FailureKind>()(error.kind);
    is<number | null>()(error.retryAfter);
  }
}

const peer = await Peer.start("folder", [0, 3], { precision: "bf16" });
const model = await DistributedModel.open("folder", { peers: [peer.address], draftModel: "other" });
const turn = await model.openSession().generate("Hello", { topLogprobs: 2, maxDraft: 8 });
is<TokenStream>()(turn);
for await (const token of turn) is<Token>()(token);
is<Rows>()(await model.openHiddenSession().run(await model.embed([1])));
is<Audit>()(await (await ContributionLedger.open("file")).audit());
