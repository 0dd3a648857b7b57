import { CancelledError, Unavailable } from "./errors.js";

/** A pause that keeps no process alive. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}

/** Something that is to fail if it is not done in time: a link of a list. */
export class Pending {
  /** @internal */
  at = 0;
  /** @internal */
  before: Pending | undefined;
  /** @internal */
  after: Pending | undefined;

  constructor(readonly expire: () => void) {}
}

/**
 * Timeouts of one length, for what begins a hundred thousand times a second and nearly never times out: they end in the
 * order in which they began, so that a list and one timer for its head will do. A timer for each call costs more than
 * all else that a hit does here.
 */
export class Deadlines {
  readonly #ms: number;
  #head: Pending | undefined;
  #tail: Pending | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.#ms = ms;
  }

  /** Expires it after the time, unless it is deleted before. */
  add(pending: Pending): void {
    pending.at = performance.now() + this.#ms;
    pending.before = this.#tail;
    if (this.#tail === undefined) this.#head = pending;
    else this.#tail.after = pending;
    this.#tail = pending;
    if (this.#timer === undefined) this.#wake(this.#ms);
  }

  /** It was done in time. */
  delete(pending: Pending): void {
    const { before, after } = pending;
    if (before === undefined) {
      if (this.#head !== pending) return; // it has expired
      this.#head = after;
    } else before.after = after;
    if (after === undefined) this.#tail = before;
    else after.before = before;
    pending.before = pending.after = undefined;
  }

  #wake(ms: number): void {
    this.#timer = setTimeout(() => {
      const now = performance.now();
      for (let head = this.#head; head !== undefined && head.at <= now; head = this.#head) {
        this.delete(head);
        head.expire();
      }
      this.#timer = undefined;
      if (this.#head !== undefined) this.#wake(Math.max(1, Math.ceil(this.#head.at - now)));
    }, ms).unref();
  }
}

/**
 * What `promise` comes to, unless `ms` pass first: then it rejects with `timeout`, and what the promise comes to later
 * is nobody's concern (its rejection is handled).
 */
export function within<T>(promise: Promise<T>, ms: number, what: string, key?: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Unavailable("timeout", `${what} took over ${String(ms)} ms`, { key }));
    }, ms).unref();
    promise
      .finally(() => {
        clearTimeout(timer);
      })
      .then(resolve, reject);
  });
}

/** Whether it is now: a property that changes under the compiler's eyes. */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** The error of an aborted signal. */
export function aborted(signal: AbortSignal, key?: string): CancelledError {
  return new CancelledError("aborted", "the operation was aborted", { key, cause: signal.reason });
}

/** What `promise` comes to, unless the signal is aborted first: then it rejects with `aborted`. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined, key?: string): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      reject(aborted(signal, key));
    };
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", stop);
    });
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
