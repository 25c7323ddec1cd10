// The library's own types, with the C++ names in camelCase: models, sessions, peers and the ledger.
// In Node, where the package has its native part for the machine.
import * as binding from "../native/binding.cjs";
import { closeOn } from "./ending.js";
import {
  asArray, nextOf, translated, translatedLater, type Addon, type NativeHidden, type NativeLedger,
  type NativeModel, type NativePeer, type NativeSession, type NativeTokens,
} from "./native.js";
import { FarMeshError, type AskOptions, type ChatMessage } from "./types.js";

function native(): Addon {
  if (binding.addon) return binding.addon as Addon;
  throw new FarMeshError("failed", "engine_unavailable",
    `The library's own types need the package's native part: ${binding.problem}`);
}

/** What weights are held and multiplied in. */
export type Precision = "f32" | "bf16" | "f16" | "int8" | "int4";

/** One stage of a route: `layers` are the first, and one past the last. */
export interface Hop {
  /** An address; "local" for the layers of this process. */
  peer: string;
  layers: [number, number];
  /** Queue and compute, a token. */
  ms: number;
}

/** One token of a Session. */
export interface Token {
  id: number;
  /** What became complete with it, in whole characters; may be empty. */
  text: string;
  logprob: number;
  /** Likeliest first, where `topLogprobs` asks for them. */
  top: { id: number; logprob: number }[];
}

export interface TurnUsage {
  promptTokens: number;
  tokens: number;
  ttftMs: number;
  tokensPerSecond: number;
  finishReason: "none" | "stop" | "length" | "cancelled";
  hops: Hop[];
  /** Times that a lost peer was replaced. */
  recoveries: number;
  numericsChanged: boolean;
}

/** As of a question to a FarMesh, but for the model and the cost. */
export interface GenerateOptions extends Omit<AskOptions, "model" | "maxCostFar"> {
  /** Alternatives told with each token, at most 20. */
  topLogprobs?: number;
  /** Tokens guessed ahead and verified in one step, at most 16: 0. The tokens are the same. */
  maxDraft?: number;
}

/**
 * Rows of numbers, one after the other. Those that the library gives are not copied: nobody may write
 * to their `data`.
 */
export interface Rows {
  dtype: "f32" | "bf16";
  /** Rows and columns. */
  shape: [number, number];
  /** Of bf16 the bits: JavaScript has no such numbers. */
  data: Float32Array | Uint16Array;
}

export interface SessionOptions {
  /** Most tokens of the session; 0: the model's whole context. */
  contextTokens?: number;
  /** Tokens that may wait for a slow reader: 64. */
  bufferTokens?: number;
  /** Keeps a spare peer's cache warm behind every stage. */
  warmStandby?: boolean;
}

/** The tokens of one turn, as they are made, for one reader. */
export class TokenStream implements AsyncIterable<Token> {
  private ended = () => {};

  /** @internal */
  constructor(private readonly tokens: NativeTokens, signal?: AbortSignal) {
    this.ended = closeOn(signal, this);
  }

  /** So far, or of the whole turn once it has ended. */
  get usage(): TurnUsage { return this.tokens.usage(); }

  /** The tokens not read yet. Leaving the loop ends the turn. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Token> {
    try {
      for (;;) {
        const token = await nextOf(this.tokens);
        if (token === null) return;
        yield token;
      }
    } finally {
      this.cancel();  // after the end it changes nothing
    }
  }

  /** Waits for the end. The text of the tokens not read yet. */
  async text(): Promise<string> {
    let text = "";
    for await (const token of this) text += token.text;
    return text;
  }

  /** Ends the turn and frees its cache on every peer; the session stays usable. */
  cancel(): void {
    this.ended();
    this.tokens.close();
  }
  /** As `cancel()`. */
  close(): void { this.cancel(); }
}

/** A conversation with a model: one cache serves every turn. */
export class Session {
  /** @internal */
  constructor(private readonly session: NativeSession) {}

  /** Continues the session's text with `prompt`, and then with the model's words. */
  async generate(prompt: string, options: GenerateOptions = {}): Promise<TokenStream> {
    if (typeof prompt !== "string") throw new TypeError("generate() takes a string");
    return this.turn(options, (given) => this.session.generate(prompt, given));
  }

  /** The same for a prompt that is already token ids; nothing is added to them. */
  async generateIds(prompt: number[], options: GenerateOptions = {}): Promise<TokenStream> {
    return this.turn(options, (given) => this.session.generateIds(prompt, given));
  }

  /** Answers the whole conversation so far, through the model's chat template. */
  async chat(messages: ChatMessage[], options: GenerateOptions = {}): Promise<TokenStream> {
    if (!Array.isArray(messages)) throw new TypeError("chat() takes an array of messages");
    return this.turn(options, (given) => this.session.chat(messages, given));
  }

  /** All token ids of the session so far, prompts and output. */
  async ids(): Promise<number[]> { return this.session.ids(); }

  private async turn(options: GenerateOptions,
                     begin: (given: object) => Promise<NativeTokens>): Promise<TokenStream> {
    const given = { ...options, stop: asArray(options.stop) };
    return new TokenStream(await translatedLater(begin(given)), options.signal);
  }
}

/** A model's layers without its words: hidden states go in, and come out behind the last layer. */
export class HiddenSession {
  /** @internal */
  constructor(private readonly session: NativeHidden) {}

  /** Runs [n, hidden] behind the rows before them; gives [n, hidden], without the final norm. */
  async run(hiddenStates: Rows): Promise<Rows> {
    return translatedLater(this.session.run(checked(hiddenStates)));
  }
  /** Rows run so far. */
  get position(): number { return this.session.position(); }
  /** Forgets the rows from `position` on. */
  async truncate(position: number): Promise<void> {
    if (!Number.isInteger(position) || position < 0) throw new TypeError("a position is a number");
    return translatedLater(this.session.truncate(position));
  }
  /** Ends a run under way, and frees the cache on every peer; the next run computes it again. */
  cancel(): void { this.session.cancel(); }
  /** Who computed the last run. */
  async hops(): Promise<Hop[]> { return this.session.hops(); }
}

function checked(rows: Rows): Rows {
  if (typeof rows !== "object" || rows === null) throw new TypeError("hidden states are Rows");
  return rows;
}

export interface OpenOptions {
  /** "HOST:PORT" of peers that serve its layers. */
  peers?: string[];
  /** Where other peers are found. */
  bootstrap?: string | string[];
  /** Holds every layer in this process. */
  local?: boolean;
  /** A peer hosts the head, and sees the tokens. */
  remoteHead?: boolean;
  /** The folder of a small model with the same tokenizer, which guesses for turns with `maxDraft`. */
  draftModel?: string;
  /** That compute; 0: one for each core. */
  threads?: number;
  /** What the files call for, if it is not given. */
  precision?: Precision;
}

export interface ModelInfo {
  modelId: string;
  modelHash: string;
  numericsClass: string;
  architecture: string;
  numLayers: number;
  hiddenSize: number;
  hiddenDtype: "f32" | "bf16";
  vocabSize: number;
  contextTokens: number;
  hasChatTemplate: boolean;
  /** Held in this process. */
  weightBytes: number;
  peers: {
    address: string; nodeId: string; connected: boolean; layers: [number, number]; head: boolean;
    roundTripMs: number; refused: string | null;
  }[];
}

/** A model wherever its layers are: in this process, on peers, or on both. */
export class DistributedModel {
  private constructor(private readonly model: NativeModel) {}

  /** Loads what this process computes itself, then dials the peers. */
  static async open(folder: string, options: OpenOptions = {}): Promise<DistributedModel> {
    if (typeof folder !== "string") throw new TypeError("a model's folder is a string");
    const given = { ...options, model: folder, bootstrap: asArray(options.bootstrap) };
    return new DistributedModel(await translatedLater(native().Model.open(given)));
  }

  /** `addSpecial`: what the model puts around a text, such as its beginning-of-text token. */
  encode(text: string, addSpecial = true): number[] {
    if (typeof text !== "string") throw new TypeError("a text is a string");
    return translated(() => this.model.encode(text, !!addSpecial));
  }
  /** The ids' text. */
  decode(ids: number[]): string { return this.model.decode(ids); }
  /** A token's own bytes; empty for special tokens. */
  tokenBytes(id: number): Uint8Array { return this.model.tokenBytes(Number(id)); }
  /** What it is, and how its peers stand. */
  async info(): Promise<ModelInfo> { return this.model.info(); }

  /** A conversation; nothing is sent before its first turn. */
  openSession(options: SessionOptions = {}): Session {
    return new Session(translated(() => this.model.openSession(options)));
  }
  /** The layers alone; nothing is sent before the first hidden states. */
  openHiddenSession(options: SessionOptions = {}): HiddenSession {
    return new HiddenSession(translated(() => this.model.openHiddenSession(options)));
  }
  /** What the layers are given for these tokens: [ids, hidden]. */
  async embed(ids: number[]): Promise<Rows> { return translatedLater(this.model.embed(ids)); }
  /** What the head makes of the layers' output, of at most 256 rows: [rows, vocabulary], f32. */
  async logits(hiddenStates: Rows): Promise<Rows> {
    return translatedLater(this.model.logits(checked(hiddenStates)));
  }
}

export interface PeerOptions {
  /** Hosts the head as well, and sees the tokens of clients without one. */
  head?: boolean;
  /** "127.0.0.1:0"; port 0: one that is free. */
  listen?: string;
  bootstrap?: string | string[];
  /** UDP, of its DHT node; 0: a free one. */
  dhtPort?: number;
  threads?: number;
  /** A folder that keeps the node's key. */
  dataDir?: string;
  precision?: Precision;
}

/** Serves a run of a model's layers until it is stopped. */
export class Peer {
  private constructor(private readonly peer: NativePeer) {}

  /** Loads the layers (first, one past the last) and begins to listen. */
  static async start(folder: string, layers: [number, number],
                     options: PeerOptions = {}): Promise<Peer> {
    const [firstLayer, endLayer] = layers;
    const given = { ...options, folder, firstLayer, endLayer, bootstrap: asArray(options.bootstrap) };
    return new Peer(await translatedLater(native().Peer.start(given)));
  }

  /** "HOST:PORT", with the port that was chosen. */
  get address(): string { return this.peer.address(); }
  get nodeId(): string { return this.peer.nodeId(); }
  /** What it has done so far. */
  async stats(): Promise<Record<string, number>> { return this.peer.stats(); }
  /** Takes no new sessions, lets the open ones end for so long, then closes. */
  async stop(drainMs = 0): Promise<void> { return this.peer.stop(Number(drainMs)); }
}

/** Amounts are exact decimals. */
export interface LedgerSession {
  sessionId: string;
  requestId: string;
  userWallet: string;
  modelId: string;
  status: string;
  tokensGenerated: number;
  promptTokens: number;
  pricePerTokenFar: string;
  totalCostFar: string;
  contributions: {
    nodeId: string; wallet: string; tokens: number; layers: number[]; paymentFar: string;
    paymentTxHash: string; isPaid: boolean;
  }[];
}

export interface Audit {
  findings: { table: string; row: string; what: string }[];
  sessions: number;
  contributions: number;
  receipts: number;
  earnedFar: string;
  paidFar: string;
}

/** Which session cost what, and what each node is owed. */
export class ContributionLedger {
  private constructor(private readonly ledger: NativeLedger) {}

  /** A SQLite file, or postgresql://…; it is migrated if need be. */
  static async open(url: string): Promise<ContributionLedger> {
    if (typeof url !== "string") throw new TypeError("a ledger's URL is a string");
    return new ContributionLedger(await translatedLater(native().Ledger.open(url)));
  }

  /** One session, by the ledger's own id. */
  async session(sessionId: string): Promise<LedgerSession> {
    return translatedLater(this.ledger.session(`${sessionId}`));
  }
  /** The one that answered a request. */
  async sessionOfRequest(requestId: string): Promise<LedgerSession> {
    return translatedLater(this.ledger.sessionOfRequest(`${requestId}`));
  }
  /** Computes every sum again, and tells every difference. */
  async audit(): Promise<Audit> { return translatedLater(this.ledger.audit()); }
}
