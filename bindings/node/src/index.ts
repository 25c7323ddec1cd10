// @farlabs/sdk in Node: over libfarmesh where the package holds it for this machine, else over HTTP.
import * as binding from "../native/binding.cjs";
import { HttpTransport } from "./http.js";
import { Mesh } from "./mesh.js";
import { NativeTransport, type Addon, type ConnectOptions, type DirectOptions } from "./native.js";
import { FarMeshError, type FarMeshOptions, type Transport } from "./types.js";

export {
  ContributionLedger, DistributedModel, HiddenSession, Peer, Session, TokenStream, type Audit,
  type GenerateOptions, type Hop, type LedgerSession, type ModelInfo, type OpenOptions,
  type PeerOptions, type Precision, type Rows, type SessionOptions, type Token, type TurnUsage,
} from "./library.js";
export { FarStream } from "./mesh.js";
export type { ConnectOptions, DirectOptions } from "./native.js";
export {
  FarMeshError, type AskOptions, type ChatMessage, type DailyEarning, type Earnings, type FailureKind,
  type FarMeshOptions, type Model, type NodeUse, type Prompt, type Status, type Usage,
} from "./types.js";

const addon = binding.addon as Addon | undefined;

/** Whether libfarmesh is here: the mesh without a coordinator needs it. */
export const isNative = addon !== undefined;

const absent = (what: string) => new FarMeshError("failed", "engine_unavailable",
  `${what} needs the package's native part: ${binding.problem}`);

/** Of the mesh without a coordinator. */
function directTransport(options: FarMeshOptions & DirectOptions): Transport {
  if (options.apiKey !== undefined || options.baseUrl !== undefined) {
    throw new TypeError("apiKey and baseUrl are a coordinator's; the mesh itself needs none");
  }
  if (!options.model) {
    throw new TypeError("without a coordinator, model must name the model's folder");
  }
  if (!addon) throw absent("The mesh without a coordinator");
  return new NativeTransport(addon, options, true);
}

function transportOf(options: FarMeshOptions & ConnectOptions & DirectOptions): Transport {
  if (options.bootstrap !== undefined || options.peers !== undefined || options.local) {
    return directTransport(options);
  }
  if (addon) return new NativeTransport(addon, options, false);
  if (options.caFile !== undefined) throw absent("caFile");
  return new HttpTransport(options);
}

/**
 * The mesh: ask, and text streams back.
 *
 * At a coordinator: `new FarMesh({ apiKey })`. Without one: `new FarMesh({ bootstrap, model })` finds
 * the peers itself, and `model` is the model's folder: config.json, the tokenizer and, unless
 * `remoteHead`, the head's weights. `peers` names them instead, `local` computes every layer here.
 */
export class FarMesh extends Mesh {
  constructor(options: FarMeshOptions & ConnectOptions & DirectOptions = {}) {
    super(transportOf(options));
  }
}
