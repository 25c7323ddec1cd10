// What the calls take and give, in web pages and in Node.

export type FailureKind =
  | "invalid_request" | "authentication" | "payment_required" | "permission" | "not_found"
  | "conflict" | "rate_limited" | "unavailable" | "server" | "connection" | "timeout" | "failed";

/** A call to the mesh failed. `code` is for programs, `requestId` what an operator can look up. */
export class FarMeshError extends Error {
  override name = "FarMeshError";
  constructor(
    readonly kind: FailureKind,
    readonly code: string,
    message = "",
    readonly requestId = "",
    readonly status = 0,
    /** Seconds, where the other side asked to wait. */
    readonly retryAfter: number | null = null,
  ) {
    super(`${message ? `${code}: ${message}` : code}${requestId ? ` (request ${requestId})` : ""}`);
  }
}

export interface FarMeshOptions {
  /** In Node FARLABS_API_KEY, where it is not given; without any, the public tier answers. */
  apiKey?: string;
  /** In Node FARLABS_BASE_URL, else http://localhost:8100; the page's own origin with "". */
  baseUrl?: string;
  /** Full id or alias; the coordinator's default without one. */
  model?: string;
  /** Milliseconds of silence while an answer is awaited or read: 120,000. */
  timeout?: number;
  /** Tries besides the first one, in a row without progress: 4. */
  maxRetries?: number;
}

export interface AskOptions {
  model?: string;
  maxTokens?: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  logitBias?: Record<number, number>;
  /** A bigint holds the seeds that a number cannot. */
  seed?: number | bigint;
  stop?: string | string[];
  ignoreEos?: boolean;
  /** A decimal: fewer tokens rather than a higher cost. */
  maxCostFar?: string;
  signal?: AbortSignal;
}

export interface ChatMessage {
  /** Other strings are what the model's template makes of them. */
  role: "system" | "user" | "assistant" | (string & {});
  content: string;
}

export interface NodeUse {
  nodeId: string;
  layers: number[];
}

export interface Usage {
  /** 0 until the end. */
  promptTokens: number;
  /** Generated; pieces of text until the end. */
  tokens: number;
  ttftMs: number;
  finishReason: "none" | "stop" | "length" | "cancelled";
  /** An exact decimal; null until it is known. */
  costFar: string | null;
  nodesUsed: NodeUse[];
  /** Times that a broken stream was gone on with. */
  resumed: number;
}

export interface Model {
  modelId: string;
  activeNodes: number;
  pricePerTokenFar: string;
  available: boolean;
}

export interface Status {
  modelId: string;
  activeNodes: number;
  activeSessions: number;
  pricePerTokenFar: string;
  connected: boolean;
}

export interface DailyEarning {
  /** "2026-11-23" */
  date: string;
  amountFar: string;
}

/** Amounts are exact decimals. */
export interface Earnings {
  walletAddress: string;
  totalEarnedFar: string;
  /** Earned, not yet paid out. */
  pendingPayoutFar: string;
  totalTokensServed: number;
  activeNodes: number;
  avgUptimePercent: number;
  history: DailyEarning[];
}

/** A text to continue, or a conversation to answer. */
export type Prompt = string | ChatMessage[];

/** An answer in the making, for one reader. */
export interface Answer {
  /** The next piece of text, null at the end. A failure is told by every later call too. */
  next(): Promise<string | null>;
  close(): void;
  readonly usage: Usage;
  readonly requestId: string;
}

/** What is behind a FarMesh. */
export interface Transport {
  /** Sends nothing before the answer is read. */
  ask(prompt: Prompt, options: AskOptions): Answer | Promise<Answer>;
  models(): Promise<Model[]>;
  /** `model`: "" for the FarMesh's own. */
  status(model: string): Promise<Status>;
  earnings(wallet: string): Promise<Earnings>;
}
