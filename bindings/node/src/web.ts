// @farlabs/sdk/web: the mesh over HTTP, for web pages and wherever there is fetch.
import { HttpTransport } from "./http.js";
import { Mesh } from "./mesh.js";
import type { FarMeshOptions } from "./types.js";

export { FarStream } from "./mesh.js";
export {
  FarMeshError, type AskOptions, type ChatMessage, type DailyEarning, type Earnings, type FailureKind,
  type FarMeshOptions, type Model, type NodeUse, type Prompt, type Status, type Usage,
} from "./types.js";

/** The mesh, at a coordinator: ask, and text streams back. */
export class FarMesh extends Mesh {
  constructor(options: FarMeshOptions = {}) {
    super(new HttpTransport(options));
  }
}
