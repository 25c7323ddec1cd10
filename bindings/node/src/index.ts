// @farlabs/sdk in Node: over libfarmesh where the package holds it for this machine, else over HTTP.
import * as binding from "../native/binding.cjs";
import { HttpTransport } from "./http.js";
import { Mesh } from "./mesh.js";
import { NativeTransport, type Addon, type DirectOptions } from "./native.js";
import { FarMeshError, type FarMeshOptions, type Transport } from "./types.js";

export {
  ContributionLedger, DistributedModel, HiddenSession, Peer, Session, TokenStream, type Audit,
  type GenerateOptions, type Hop, type LedgerSession, type ModelInfo, type OpenOptions,
  type PeerOptions, type Precision, type Rows, type SessionOptions, type Token, type TurnUsage,
} from "./library.js";
export { FarStream } from "./mesh.js";
export type { DirectOptions } from "./native.js";
export {
  FarMeshError, type AskOptions, type ChatMessage, type DailyEarning, type Earnings, type FailureKind,
  type FarMeshOptions, type Model, type NodeUse, type Prompt, type Status, type Usage,
} from "./types.js";

const addon = binding.addon as Addon | undefined;

/** Whether libfarmesh is here: the mesh without a coordinator needs it. */
export const isNative = addon !== undefined;

function transportOf(options: FarMeshOptions & DirectOptions): Transport {
  const direct = options.bootstrap !== undefined || options.peers !== undefined || !!options.local;
  if (!direct) return addon ? new NativeTransport(addon, options, false) : new HttpTransport(options);
  if (options.apiKey !== undefined || options.baseUrl !== undefined) {
    throw new TypeError("apiKey and baseUrl are a coordinator's; the mesh itself needs none");
  }
  if (!options.model) {
    throw new TypeError("without a coordinator, model must name the model's folder");
  }
  if (!addon) {
    throw new FarMeshError("failed", "engine_unavailable",
      `The mesh without a coordinator needs the package's native part: ${binding.problem}`);
  }
  return new NativeTransport(addon, options, true);
}

/**
 * The mesh: ask, and text streams back.
 *
 * At a coordinator: `new FarMesh({ apiKey })`. Without one: `new FarMesh({ bootstrap, model })` finds
 * the peers itself, and `model` is the model's folder: config.json, the tokenizer and, unless
 * `remoteHead`, the head's weights. `peers` names them instead, `local` computes every layer here.
 */
export class FarMesh extends Mesh {
  constructor(options: FarMeshOptions & DirectOptions = {}) {
    super(transportOf(options));
  }
}
