// A coordinator over HTTP, by fetch and web streams alone: what is retried, resumed and refused is as
// include/farmesh/far_mesh.hpp has it.
import {
  FarMeshError, type Answer, type AskOptions, type DailyEarning, type Earnings, type FailureKind,
  type FarMeshOptions, type Model, type Prompt, type Status, type Transport, type Usage,
} from "./types.js";

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
  pause(): void { clearTimeout(this.timer); }
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

/** An answer over as many exchanges as it takes. */
class HttpAnswer implements Answer {
  private readonly controller = new AbortController();
  private readonly pieces: AsyncGenerator<string>;
  private readonly state: Usage = {
    promptTokens: 0, tokens: 0, ttftMs: 0, finishReason: "none", costFar: null, nodesUsed: [],
    resumed: 0,
  };
  private id = "";
  private failure: { error: unknown } | null = null;
  private lastId = "";
  private finish: Usage["finishReason"] = "none";
  private told: Json | null = null;  // the usage

  constructor(private readonly at: HttpTransport, private readonly path: string,
              private readonly body: Json) {
    this.pieces = this.run();
  }

  get usage(): Usage { return { ...this.state }; }
  get requestId(): string { return this.id; }

  async next(): Promise<string | null> {
    if (this.failure) throw this.failure.error;
    try {
      const next = await this.pieces.next();
      return next.done ? null : next.value;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }

  close(): void {
    if (this.state.finishReason === "none" && !this.failure) this.state.finishReason = "cancelled";
    this.controller.abort();
    void this.pieces.return(undefined).catch(() => {});
  }

  private async *run(): AsyncGenerator<string> {
    const began = Date.now();
    const signal = this.controller.signal;
    let failures = 0;
    let broke: FarMeshError | null = null;
    try {
      if (!signal.aborted) this.body.model ||= await this.at.defaultModel(signal);
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
        const wait = waitAfter(error, failures++, this.at.maxRetries);
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
    const silence = new Silence(this.at.timeout, this.controller.signal);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (this.lastId) headers["Last-Event-ID"] = this.lastId;
      const reply = await this.at.fetch("POST", this.path, silence.controller.signal, headers,
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
          silence.pause();  // while it is the reader who takes time
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

export class HttpTransport implements Transport {
  readonly timeout: number;
  readonly maxRetries: number;
  private readonly baseUrl: string;
  private readonly apiKey: string;
  private model: string;

  constructor(options: FarMeshOptions) {
    this.apiKey = options.apiKey ?? environment("FARLABS_API_KEY") ?? "";
    const baseUrl = options.baseUrl ?? environment("FARLABS_BASE_URL") ?? "http://localhost:8100";
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.model = options.model ?? "";
    this.timeout = options.timeout ?? 120_000;
    this.maxRetries = options.maxRetries ?? 4;
    const problem = !/^[\x21-\x7e]*$/.test(this.apiKey)
      ? "The API key holds spaces, line breaks or what is no ASCII."
      : this.baseUrl && !/^https?:\/\/[^/?#\s][^?#\s]*$/.test(this.baseUrl)
      ? "The base URL is no http:// or https:// address."
      : !(this.timeout > 0) || !(this.maxRetries >= 0)
      ? "A timeout or number of retries out of range." : "";
    if (problem) throw new FarMeshError("invalid_request", "invalid_argument", problem);
  }

  ask(prompt: Prompt, ask: AskOptions): Answer {
    const stop = typeof ask.stop === "string" ? [ask.stop] : ask.stop;
    const [path, what] = typeof prompt === "string" ? ["/v1/completions", { prompt }]
      : ["/v1/chat/completions", { messages: prompt }];
    return new HttpAnswer(this, path as string, {
      ...what as Json, model: ask.model ?? this.model, stream: true,
      stream_options: { include_usage: true, include_nodes: true }, max_tokens: ask.maxTokens ?? 512,
      temperature: ask.temperature ?? 0.7, top_p: ask.topP ?? 0.9, top_k: ask.topK,
      min_p: ask.minP, repetition_penalty: ask.repetitionPenalty,
      presence_penalty: ask.presencePenalty, frequency_penalty: ask.frequencyPenalty,
      logit_bias: ask.logitBias, seed: ask.seed, stop, ignore_eos: ask.ignoreEos,
      max_cost_far: ask.maxCostFar,
    });
  }

  async models(): Promise<Model[]> {
    const { models } = await this.get("/models");
    if (!Array.isArray(models)) throw malformed("The answer is no list of models.");
    return models.map((row: Json) => ({
      modelId: textOf(row?.model_id), activeNodes: Number(row?.active_nodes),
      pricePerTokenFar: textOf(row?.price_per_token_far), available: row?.status === "available",
    }));
  }

  async status(model: string, signal?: AbortSignal): Promise<Status> {
    const asked = model || this.model;
    const row = await this.get(
      `/mesh/status${asked ? `?model_id=${encodeURIComponent(asked)}` : ""}`, signal);
    return {
      modelId: textOf(row.model_id), activeNodes: Number(row.active_nodes),
      activeSessions: Number(row.active_sessions),
      pricePerTokenFar: textOf(row.price_per_token_far), connected: row.status === "connected",
    };
  }

  async earnings(wallet: string): Promise<Earnings> {
    const row = await this.get(`/api/nodes/earnings/${encodeURIComponent(wallet)}`);
    if (!Array.isArray(row.earnings_history)) throw malformed("The answer holds no earnings.");
    return {
      walletAddress: textOf(row.wallet_address), totalEarnedFar: textOf(row.total_earned_far),
      pendingPayoutFar: textOf(row.pending_payout_far),
      totalTokensServed: Number(row.total_tokens_served), activeNodes: Number(row.active_nodes),
      avgUptimePercent: Number(row.avg_uptime_percent),
      history: row.earnings_history.map((day: Json): DailyEarning => ({
        date: textOf(day?.date), amountFar: textOf(day?.amount_far),
      })),
    };
  }

  async defaultModel(signal: AbortSignal): Promise<string> {
    if (!this.model) this.model = (await this.status("", signal)).modelId;
    return this.model;
  }

  fetch(method: string, path: string, signal: AbortSignal, headers: Record<string, string> = {},
        body?: string): Promise<Response> {
    if (this.apiKey) headers.Authorization = `Bearer ${this.apiKey}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return fetch(this.baseUrl + path, { method, signal, headers, ...(body === undefined ? {} : { body }) });
  }

  /** The object that is answered, its numbers as the texts they were written as. */
  private async get(path: string, outer = new AbortController().signal): Promise<Json> {
    for (let failures = 0; ; ++failures) {
      const silence = new Silence(this.timeout, outer);
      try {
        const reply = await this.fetch("GET", path, silence.controller.signal);
        if (!reply.ok) throw await refusalOf(reply);
        return exactJson(await reply.text());
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

/** An object whose numbers are texts: amounts have more digits than a number of JavaScript's. */
function exactJson(text: string): Json {
  const number = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
  try {
    const value: unknown = JSON.parse(text.replace(number, (found) =>
      found.startsWith('"') ? found : `"${found}"`));
    if (typeof value === "object" && value !== null) return value;
  } catch { /* told below */ }
  throw malformed("The answer is not what it should be.");
}
