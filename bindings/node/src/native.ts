// libfarmesh itself, through native/binding.cjs: at a coordinator, or the peers without one.
import { FarMeshError, type Answer, type AskOptions, type Earnings, type FarMeshOptions, type Model,
  type Prompt, type Status, type Transport, type Usage } from "./types.js";

export interface DirectOptions {
  /** Where other peers are found: "/ip4/203.0.113.7/tcp/31337" or "HOST:PORT". */
  bootstrap?: string | string[];
  /** "HOST:PORT" of peers, instead. */
  peers?: string[];
  /** Computes every layer in this process. */
  local?: boolean;
  /** A peer hosts the head, and sees the tokens. */
  remoteHead?: boolean;
  /** That compute; 0: one for each core. */
  threads?: number;
  joinTokenFile?: string;
}

interface NativeStream {
  next(): string | null | undefined;  // undefined: nothing yet
  onReady(wake: () => void): void;
  close(): void;
  usage(): Usage;
  requestId(): string;
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
    connect(options: FarMeshOptions): NativeMesh;
    open(options: object): Promise<NativeMesh>;
  };
}

/** What the library throws has these fields; anything else is what it is. */
function asError(thrown: any): unknown {
  if (typeof thrown?.kind !== "string") return thrown;
  return new FarMeshError(thrown.kind, thrown.code, thrown.message, thrown.requestId, thrown.status,
    thrown.retryAfter);
}

function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw asError(thrown);
  }
}

const translatedLater = <T>(call: Promise<T>): Promise<T> =>
  call.catch((thrown) => { throw asError(thrown); });

class NativeAnswer implements Answer {
  constructor(private readonly stream: NativeStream) {}

  async next(): Promise<string | null> {
    for (;;) {
      const text = translated(() => this.stream.next());
      if (text !== undefined) return text;
      await new Promise<void>((resolve) => this.stream.onReady(resolve));
    }
  }

  close(): void { this.stream.close(); }
  get usage(): Usage { return this.stream.usage(); }
  get requestId(): string { return this.stream.requestId(); }
}

export class NativeTransport implements Transport {
  private readonly mesh: Promise<NativeMesh>;

  constructor(addon: Addon, options: FarMeshOptions & DirectOptions, direct: boolean) {
    if (direct) {
      const { bootstrap } = options;
      const given = { ...options, bootstrap: typeof bootstrap === "string" ? [bootstrap] : bootstrap };
      this.mesh = translatedLater(addon.Mesh.open(given));
      this.mesh.catch(() => {});  // told by the calls that wait for it
    } else {
      this.mesh = Promise.resolve(translated(() => addon.Mesh.connect(options)));
    }
  }

  async ask(prompt: Prompt, options: AskOptions): Promise<Answer> {
    const mesh = await this.mesh;
    const { stop } = options;
    const given = { ...options, stop: typeof stop === "string" ? [stop] : stop };
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
