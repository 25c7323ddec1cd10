// FarMesh and its streams, over whatever is behind them.
import { closeOn, closeWhenForgotten } from "./ending.js";
import type {
  Answer, AskOptions, Earnings, Model, NodeUse, Prompt, Status, Transport, Usage,
} from "./types.js";

/** An answer as it is made: pieces of text for `for await`, or a web stream. */
export class FarStream implements AsyncIterable<string> {
  private read = "";
  private ended = () => {};

  /** @internal */
  constructor(private readonly answer: Answer, signal?: AbortSignal) {
    closeWhenForgotten(this, () => answer.close());
    this.ended = closeOn(signal, this);
  }

  get usage(): Usage { return this.answer.usage; }
  /** What the answer costs, exactly; null until that is known. */
  get costFar(): string | null { return this.usage.costFar; }
  /** Who made the answer, in route order; empty until that is known. */
  get nodesUsed(): NodeUse[] { return this.usage.nodesUsed; }
  get requestId(): string | null { return this.answer.requestId || null; }

  /** The pieces not read yet. Leaving the loop closes the stream. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    try {
      for (;;) {
        const text = await this.answer.next();
        if (text === null) return;
        this.read += text;
        yield text;
      }
    } finally {
      this.close();  // after the end it changes nothing
    }
  }

  /** Waits for the end. The whole answer, with what was read before. */
  async text(): Promise<string> {
    for await (const _ of this) { /* gathered */ }
    return this.read;
  }

  /** The same pieces, read as they are asked for; cancelling it closes the stream. */
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

  /** Ends the answer here and at the other end; what was not read is dropped. Any number of times. */
  close(): void {
    this.ended();
    this.answer.close();
  }
}

/** The calls of the package, whatever `transport` is. */
export class Mesh {
  /** @internal */
  constructor(private readonly transport: Transport) {}

  /** Answers a message, or the conversation so far. What goes wrong is thrown where it is read. */
  async chat(prompt: Prompt, options: AskOptions = {}): Promise<FarStream> {
    if (typeof prompt !== "string" && !Array.isArray(prompt)) {
      throw new TypeError("chat() takes a string or an array of messages");
    }
    return this.ask(typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt, options);
  }

  /** Continues `prompt` as it stands. */
  async generate(prompt: string, options: AskOptions = {}): Promise<FarStream> {
    if (typeof prompt !== "string") throw new TypeError("generate() takes a string");
    return this.ask(prompt, options);
  }

  /** Every model that is served. */
  async models(): Promise<Model[]> { return this.transport.models(); }

  /** How a model stands; without one, the FarMesh's own. */
  async status(model = ""): Promise<Status> { return this.transport.status(model); }

  /** What the nodes of `wallet` (0x…) have earned. Asked of a coordinator only. */
  async earnings(wallet: string): Promise<Earnings> {
    if (typeof wallet !== "string") throw new TypeError("a wallet is a string");
    return this.transport.earnings(wallet);
  }

  private async ask(prompt: Prompt, options: AskOptions): Promise<FarStream> {
    return new FarStream(await this.transport.ask(prompt, options), options.signal);
  }
}
