// What ends a stream besides its reader: an AbortSignal, and being forgotten.

/** Of what must be done when an object is gone. */
const gone = new FinalizationRegistry<() => void>((then) => then());

/** Calls `close`, which must not hold `stream`, once nobody has the stream any more. */
export function closeWhenForgotten(stream: object, close: () => void): void {
  gone.register(stream, close);
}

/**
 * Calls `stream.close()` when `signal` aborts. Signals may outlive many streams, and hold none of them.
 * Gives what takes it back, for a stream that has ended.
 */
export function closeOn(signal: AbortSignal | undefined, stream: { close(): void }): () => void {
  if (signal?.aborted) stream.close();
  if (!signal || signal.aborted) return () => {};
  const held = new WeakRef(stream);
  const abort = () => held.deref()?.close();
  signal.addEventListener("abort", abort, { once: true });
  const takeBack = () => signal.removeEventListener("abort", abort);
  gone.register(stream, takeBack);
  return takeBack;
}
