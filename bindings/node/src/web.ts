// The mesh over HTTP, for web pages and for Node where the native part is absent.
//
// The same surface as the native package and as Python's `farlabs`, in camelCase; what is retried,
// resumed and refused is as include/farmesh/far_mesh.hpp has it. Needs fetch and web streams only.

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
  role: "system" | "user" | "assistant";
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

const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 8_000;
const MAX_EVENT_CHARS = 1 << 20;

function kindOf(status: number): FailureKind {
  switch (status) {
    case 401: return "authentication";
    case 402: return "payment_required";
    case 403: return "permission";
    case 404: return "not_found";
    case 409: return "conflict";
    case 429: return "rate_limited";
    case 502: case 503: case 504: return "unavailable";
    default: return status >= 400 && status < 500 ? "invalid_request" : "server";
  }
}

const KIND_OF_TYPE: Record<string, FailureKind> = {
  invalid_request_error: "invalid_request",
  authentication_error: "authentication",
  insufficient_quota: "payment_required",
  permission_error: "permission",
  rate_limit_error: "rate_limited",
  overloaded_error: "unavailable",
};

type Json = Record<string, any>;

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");
const countOf = (value: unknown): number =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : 0;

/** OpenAI's errors are an object, the platform's stand beside "error". */
function errorOf(body: Json, kind: FailureKind, status = 0): FarMeshError {
  const nested = typeof body.error === "object" && body.error !== null;
  const fields: Json = nested ? body.error : body;
  return new FarMeshError(kind, textOf(fields.code) || (status ? `http_${status}` : "failed"),
    textOf(nested ? fields.message : fields.error), textOf(body.request_id), status);
}

async function refusalOf(reply: Response): Promise<FarMeshError> {
  const body: unknown = await reply.json().catch(() => ({}));
  const told = errorOf((typeof body === "object" && body) || {}, kindOf(reply.status), reply.status);
  const after = reply.headers.get("Retry-After") ?? "";
  return new FarMeshError(told.kind, told.code, told.message.replace(`${told.code}: `, ""),
    told.requestId || (reply.headers.get("X-Request-Id") ?? ""), reply.status,
    /^\d{1,9}$/.test(after) ? Number(after) : null);
}

/** Nothing when another try is not worth it. */
function waitAfter(error: FarMeshError, failures: number, maxRetries: number): number | null {
  const passing = error.kind === "rate_limited" || error.kind === "unavailable" ||
    error.code === "connection_lost";
  if (!passing || failures >= maxRetries) return null;
  const asked = (error.retryAfter ?? 0) * 1000;
  if (asked > MAX_WAIT_MS) return null;
  const own = Math.min(FIRST_WAIT_MS * 2 ** failures, MAX_WAIT_MS) * (0.5 + Math.random() / 2);
  return Math.max(asked, own);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/** Aborts when there was no word for so long. */
class Silence {
  private timer: ReturnType<typeof setTimeout> | undefined;
  readonly controller = new AbortController();
  isOver = false;
  constructor(private readonly ms: number, private readonly outer: AbortSignal) {
    outer.addEventListener("abort", this.end, { once: true });
    outer.aborted ? this.controller.abort() : this.heard();
  }
  private readonly end = () => {
    clearTimeout(this.timer);
    this.controller.abort();
  };
  heard(): void {
    if (this.controller.signal.aborted) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.isOver = true; this.controller.abort(); }, this.ms);
  }
  stop(): void {
    clearTimeout(this.timer);
    this.outer.removeEventListener("abort", this.end);
  }
}

/** The complete events of a text/event-stream: their data, and the last id so far. */
class EventReader {
  private rest = "";
  private data: string[] = [];
  id = "";

  *feed(text: string): Generator<string> {
    this.rest += text;
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    if (this.rest.length > MAX_EVENT_CHARS) throw malformed("An event of the stream is too large.");
    for (const line of lines) {
      if (line === "") {
        const data = this.data.join("\n");
        const complete = this.data.length > 0;
        this.data = [];
        if (complete) yield data;
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") this.data.push(value);
      if (field === "id" && !value.includes("\0")) this.id = value;
    }
  }
}

const malformed = (message: string) => new FarMeshError("connection", "bad_http", message);
const lost = (message: string) => new FarMeshError("connection", "connection_lost", message);

/** An answer as it is made: pieces of text for `for await`, or a web stream. */
export class FarStream implements AsyncIterable<string> {
  private readonly controller = new AbortController();
  private readonly pieces: AsyncGenerator<string>;
  private state: Usage = {
    promptTokens: 0, tokens: 0, ttftMs: 0, finishReason: "none", costFar: null, nodesUsed: [],
    resumed: 0,
  };
  private read = "";
  private id = "";
  private failure: unknown = null;

  /** @internal */
  constructor(private readonly mesh: FarMesh, private readonly path: string,
              private readonly body: Json, signal?: AbortSignal) {
    if (signal?.aborted) this.close();
    signal?.addEventListener("abort", () => this.close(), { once: true });
    this.pieces = this.run();
  }

  get usage(): Usage { return { ...this.state }; }
  /** What the answer costs, exactly; null until that is known. */
  get costFar(): string | null { return this.state.costFar; }
  get nodesUsed(): NodeUse[] { return this.state.nodesUsed; }
  get requestId(): string | null { return this.id || null; }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    try {
      for (;;) {
        if (this.failure) throw this.failure;
        const next = await this.pieces.next().catch((error) => {
          this.failure = error;
          throw error;
        });
        if (next.done) return;
        this.read += next.value;
        yield next.value;
      }
    } finally {
      this.close();  // after the end it changes nothing
      await this.pieces.return(undefined).catch(() => {});
    }
  }

  /** Waits for the end. The whole answer, with what was read before. */
  async text(): Promise<string> {
    for await (const _ of this) { /* gathered */ }
    return this.read;
  }

  toReadableStream(): ReadableStream<string> {
    const reader = this[Symbol.asyncIterator]();
    return new ReadableStream<string>({
      async pull(controller) {
        const next = await reader.next();
        next.done ? controller.close() : controller.enqueue(next.value);
      },
      cancel: () => this.close(),
    }, { highWaterMark: 0 });
  }

  /** Ends the answer here and at the other end; any number of times. */
  close(): void {
    if (this.state.finishReason === "none" && !this.failure) this.state.finishReason = "cancelled";
    this.controller.abort();
  }

  private lastId = "";
  private finish: Usage["finishReason"] = "none";
  private told: Json | null = null;  // the usage

  private async *run(): AsyncGenerator<string> {
    const began = Date.now();
    const signal = this.controller.signal;
    let failures = 0;
    let broke: FarMeshError | null = null;
    try {
      if (!signal.aborted) this.body.model ||= await this.mesh.defaultModel(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    while (!signal.aborted) {
      try {
        for await (const text of this.exchange()) {
          failures = 0;
          if (this.state.tokens++ === 0) this.state.ttftMs = Date.now() - began;
          yield text;
          if (signal.aborted) return;
        }
        return this.end();
      } catch (thrown) {
        if (signal.aborted) return;
        if (this.finish !== "none" && this.told) return this.end();
        const error = this.named(thrown);
        if (broke && this.lastId && (error.kind === "not_found" || error.kind === "conflict")) {
          throw this.named(lost(`The stream broke (${broke.code}) and could not be gone on with ` +
            `(${error.code}).`));
        }
        const wait = waitAfter(error, failures++, this.mesh.maxRetries);
        if (wait === null) throw error;
        broke = error;
        await sleep(wait, signal);
      }
    }
  }

  private named(thrown: unknown): FarMeshError {
    const error = thrown instanceof FarMeshError ? thrown : lost(String(thrown));
    if (error.requestId || !this.id) return error;
    return new FarMeshError(error.kind, error.code, error.message.replace(`${error.code}: `, ""),
      this.id, error.status, error.retryAfter);
  }

  private end(): void {
    const usage = this.told ?? {};
    if (this.state.finishReason === "none") this.state.finishReason = this.finish;
    this.state.promptTokens = countOf(usage.prompt_tokens);
    this.state.tokens = countOf(usage.completion_tokens) || this.state.tokens;
    if (textOf(usage.cost_far)) this.state.costFar = usage.cost_far;
    const nodes: unknown = usage.nodes_used;
    this.state.nodesUsed = !Array.isArray(nodes) ? [] : nodes.map((node: Json) => ({
      nodeId: textOf(node?.node_id), layers: Array.isArray(node?.layers) ? node.layers : [],
    }));
  }

  /** One exchange, to the end of the answer. */
  private async *exchange(): AsyncGenerator<string> {
    const silence = new Silence(this.mesh.timeout, this.controller.signal);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (this.lastId) headers["Last-Event-ID"] = this.lastId;
      const reply = await this.mesh.fetch("POST", this.path, silence.controller.signal, headers,
        toJson(this.body));
      if (!reply.ok) throw await refusalOf(reply);
      if (!(reply.headers.get("Content-Type") ?? "").startsWith("text/event-stream") || !reply.body) {
        throw malformed("The answer is no stream of events.");
      }
      if (this.lastId) ++this.state.resumed;
      const reader = reply.body.getReader();
      const decoder = new TextDecoder("utf-8", { fatal: true });
      const events = new EventReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw lost("The stream ended before the answer did.");
        silence.heard();
        for (const data of events.feed(decode(decoder, value))) {
          if (data === "[DONE]") return;
          const text = this.take(data);
          if (text) yield text;
          this.lastId = events.id;
          silence.heard();
        }
      }
    } catch (error) {
      if (silence.isOver) throw new FarMeshError("timeout", "timeout", "No word from the server.");
      throw error;
    } finally {
      silence.stop();
      silence.controller.abort();
    }
  }

  private take(data: string): string {
    let event: Json;
    try {
      event = JSON.parse(data);
    } catch {
      throw malformed("An event of the stream is no JSON.");
    }
    if (event?.error) throw errorOf(event, KIND_OF_TYPE[event.error.type] ?? "server");
    if (!Array.isArray(event?.choices)) throw malformed("An event of the stream is none.");
    this.id = textOf(event.id) || this.id;
    if (event.usage) this.told = event.usage;
    const choice = event.choices[0];
    if (!choice) return "";
    if (choice.finish_reason === "stop" || choice.finish_reason === "length") {
      this.finish = choice.finish_reason;
    }
    return textOf(choice.delta ? choice.delta.content : choice.text);
  }
}

function decode(decoder: TextDecoder, bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes, { stream: true });
  } catch {
    throw malformed("The stream is no UTF-8.");
  }
}

/** As JSON.stringify, with bigints as the numbers they are. */
function toJson(body: Json): string {
  const seed = body.seed;
  if (typeof seed !== "bigint") return JSON.stringify(body);
  return JSON.stringify({ ...body, seed: undefined }).replace(/}$/, `,"seed":${seed}}`);
}

/** Pages have no environment. */
function environment(name: string): string | undefined {
  const process = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process;
  return process?.env?.[name];
}

/** The mesh, at a coordinator: ask, and text streams back. */
export class FarMesh {
  /** @internal */ readonly timeout: number;
  /** @internal */ readonly maxRetries: number;
  private readonly baseUrl: string;
  private readonly apiKey: string;
  private model: string;

  constructor(options: FarMeshOptions = {}) {
    this.apiKey = options.apiKey ?? environment("FARLABS_API_KEY") ?? "";
    if (!/^[\x21-\x7e]*$/.test(this.apiKey)) {
      throw new FarMeshError("invalid_request", "invalid_argument",
        "The API key holds spaces, line breaks or what is no ASCII.");
    }
    const baseUrl = options.baseUrl ?? environment("FARLABS_BASE_URL") ?? "http://localhost:8100";
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.model = options.model ?? "";
    this.timeout = options.timeout ?? 120_000;
    this.maxRetries = options.maxRetries ?? 4;
  }

  /** Answers a message, or the conversation so far. What goes wrong is thrown where it is read. */
  async chat(prompt: string | ChatMessage[], options: AskOptions = {}): Promise<FarStream> {
    const messages = typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt;
    return this.start("/v1/chat/completions", { messages }, options);
  }

  /** Continues `prompt` as it stands. */
  async generate(prompt: string, options: AskOptions = {}): Promise<FarStream> {
    return this.start("/v1/completions", { prompt }, options);
  }

  async models(): Promise<Model[]> {
    const body = await this.get("/models");
    return (body.models as Json[]).map((row) => ({
      modelId: textOf(row.model_id), activeNodes: countOf(row.active_nodes),
      pricePerTokenFar: textOf(row.price_per_token_far), available: row.status === "available",
    }));
  }

  async status(model = this.model, signal?: AbortSignal): Promise<Status> {
    const row = await this.get(
      `/mesh/status${model ? `?model_id=${encodeURIComponent(model)}` : ""}`, signal);
    return {
      modelId: textOf(row.model_id), activeNodes: countOf(row.active_nodes),
      activeSessions: countOf(row.active_sessions),
      pricePerTokenFar: textOf(row.price_per_token_far), connected: row.status === "connected",
    };
  }

  /** @internal */
  async defaultModel(signal: AbortSignal): Promise<string> {
    if (!this.model) this.model = (await this.status("", signal)).modelId;
    return this.model;
  }

  /** @internal */
  fetch(method: string, path: string, signal: AbortSignal, headers: Record<string, string> = {},
        body?: string): Promise<Response> {
    if (this.apiKey) headers.Authorization = `Bearer ${this.apiKey}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return fetch(this.baseUrl + path, { method, signal, headers, ...(body === undefined ? {} : { body }) });
  }

  private start(path: string, body: Json, ask: AskOptions): FarStream {
    const stop = typeof ask.stop === "string" ? [ask.stop] : ask.stop;
    return new FarStream(this, path, {
      ...body, model: ask.model ?? this.model, stream: true,
      stream_options: { include_usage: true, include_nodes: true }, max_tokens: ask.maxTokens ?? 512,
      temperature: ask.temperature ?? 0.7, top_p: ask.topP ?? 0.9, top_k: ask.topK,
      min_p: ask.minP, repetition_penalty: ask.repetitionPenalty,
      presence_penalty: ask.presencePenalty, frequency_penalty: ask.frequencyPenalty,
      logit_bias: ask.logitBias, seed: ask.seed, stop, ignore_eos: ask.ignoreEos,
      max_cost_far: ask.maxCostFar,
    }, ask.signal);
  }

  private async get(path: string, outer = new AbortController().signal): Promise<Json> {
    for (let failures = 0; ; ++failures) {
      const silence = new Silence(this.timeout, outer);
      try {
        const reply = await this.fetch("GET", path, silence.controller.signal);
        if (!reply.ok) throw await refusalOf(reply);
        return await reply.json().catch(() => { throw malformed("The answer is no JSON."); });
      } catch (thrown) {
        const error = thrown instanceof FarMeshError ? thrown
          : silence.isOver ? new FarMeshError("timeout", "timeout", "No word from the server.")
          : lost(String(thrown));
        const wait = waitAfter(error, failures, this.maxRetries);
        if (wait === null || outer.aborted) throw error;
        await sleep(wait, outer);
      } finally {
        silence.stop();
      }
    }
  }
}
