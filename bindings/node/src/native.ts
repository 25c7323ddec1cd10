// libfarmesh itself, through native/binding.cjs: at a coordinator, or the peers without one.
import type { Audit, Hop, LedgerSession, ModelInfo, Rows, Token, TurnUsage } from "./library.js";
import { FarMeshError, type Answer, type AskOptions, type Earnings, type FarMeshOptions, type Model,
  type Prompt, type Status, type Transport, type Usage } from "./types.js";

/** What the library's own HTTP has; a web page's browser decides these. */
export interface ConnectOptions {
  /** Milliseconds until a connection stands: 10,000. */
  connectTimeout?: number;
  /** PEM of the authorities to trust instead of the system's. */
  caFile?: string;
}

export interface DirectOptions {
  /** Where other peers are found: "/ip4/203.0.113.7/tcp/31337" or "HOST:PORT". */
  bootstrap?: string | string[];
  /** "HOST:PORT" of peers, instead. */
  peers?: string[];
  /** Computes every layer in this process. */
  local?: boolean;
  /** A peer hosts the head, and sees the tokens. */
  remoteHead?: boolean;
  /** The folder of a small model with the same tokenizer, which guesses ahead; the text is the same. */
  draftModel?: string;
  /** That compute; 0: one for each core. */
  threads?: number;
  joinTokenFile?: string;
}

interface Reader<Piece> {
  next(): Piece | null | undefined;  // undefined: nothing yet
  onReady(wake: () => void): void;
  close(): void;
}

interface NativeStream extends Reader<string> {
  usage(): Usage;
  requestId(): string;
}

export interface NativeTokens extends Reader<Token> {
  usage(): TurnUsage;
}

export interface NativeSession {
  generate(prompt: string, options: object): Promise<NativeTokens>;
  generateIds(prompt: number[], options: object): Promise<NativeTokens>;
  chat(messages: object[], options: object): Promise<NativeTokens>;
  ids(): Promise<number[]>;
}

export interface NativeHidden {
  run(rows: Rows): Promise<Rows>;
  position(): number;
  truncate(position: number): Promise<void>;
  cancel(): void;
  hops(): Promise<Hop[]>;
}

export interface NativeModel {
  encode(text: string, addSpecial: boolean): number[];
  decode(ids: number[]): string;
  tokenBytes(id: number): Uint8Array;
  info(): Promise<ModelInfo>;
  openSession(options: object): NativeSession;
  openHiddenSession(options: object): NativeHidden;
  embed(ids: number[]): Promise<Rows>;
  logits(rows: Rows): Promise<Rows>;
}

export interface NativePeer {
  address(): string;
  nodeId(): string;
  stats(): Promise<Record<string, number>>;
  stop(drainMs: number): Promise<void>;
}

export interface NativeLedger {
  session(id: string): Promise<LedgerSession>;
  sessionOfRequest(id: string): Promise<LedgerSession>;
  audit(): Promise<Audit>;
}

interface NativeMesh {
  generate(prompt: string, options: object): NativeStream;
  chat(messages: object[], options: object): NativeStream;
  models(): Promise<Model[]>;
  status(model: string): Promise<Status>;
  earnings(wallet: string): Promise<Earnings>;
}

export interface Addon {
  version: string;
  Mesh: {
    connect(options: FarMeshOptions & ConnectOptions): NativeMesh;
    open(options: object): Promise<NativeMesh>;
  };
  Model: { open(options: object): Promise<NativeModel> };
  Peer: { start(options: object): Promise<NativePeer> };
  Ledger: { open(url: string): Promise<NativeLedger> };
}

/** What the library throws has these fields; anything else is what it is. */
function asError(thrown: any): unknown {
  if (typeof thrown?.kind !== "string") return thrown;
  return new FarMeshError(thrown.kind, thrown.code, thrown.message, thrown.requestId, thrown.status,
    thrown.retryAfter);
}

export function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw asError(thrown);
  }
}

export const translatedLater = <T>(call: Promise<T>): Promise<T> =>
  call.catch((thrown) => { throw asError(thrown); });

/** The next piece, null at the end. */
export async function nextOf<Piece>(reader: Reader<Piece>): Promise<Piece | null> {
  for (;;) {
    const piece = translated(() => reader.next());
    if (piece !== undefined) return piece;
    await new Promise<void>((resolve) => reader.onReady(resolve));
  }
}

/** What may be given as one is a list to the library. */
export const asArray = (given: string | string[] | undefined): string[] | undefined =>
  typeof given === "string" ? [given] : given;

class NativeAnswer implements Answer {
  constructor(private readonly stream: NativeStream) {}

  next(): Promise<string | null> { return nextOf(this.stream); }
  close(): void { this.stream.close(); }
  get usage(): Usage { return this.stream.usage(); }
  get requestId(): string { return this.stream.requestId(); }
}

export class NativeTransport implements Transport {
  private readonly mesh: Promise<NativeMesh>;

  constructor(addon: Addon, options: FarMeshOptions & ConnectOptions & DirectOptions, direct: boolean) {
    if (direct) {
      const given = { ...options, bootstrap: asArray(options.bootstrap) };
      this.mesh = translatedLater(addon.Mesh.open(given));
      this.mesh.catch(() => {});  // told by the calls that wait for it
    } else {
      this.mesh = Promise.resolve(translated(() => addon.Mesh.connect(options)));
    }
  }

  async ask(prompt: Prompt, options: AskOptions): Promise<Answer> {
    const mesh = await this.mesh;
    const given = { ...options, stop: asArray(options.stop) };
    return new NativeAnswer(translated(() =>
      typeof prompt === "string" ? mesh.generate(prompt, given) : mesh.chat(prompt, given)));
  }

  async models(): Promise<Model[]> { return translatedLater((await this.mesh).models()); }
  async status(model: string): Promise<Status> {
    return translatedLater((await this.mesh).status(model));
  }
  async earnings(wallet: string): Promise<Earnings> {
    return translatedLater((await this.mesh).earnings(wallet));
  }
}
