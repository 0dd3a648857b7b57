import { CancelledError, Unavailable } from "./errors.js";

/** A pause that keeps no process alive. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}

/**
 * What `promise` comes to, unless `ms` pass first: then it rejects with `timeout`, and what the promise comes
 * to later is nobody's concern (its rejection is handled).
 */
export function within<T>(promise: Promise<T>, ms: number, what: string, key?: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Unavailable("timeout", `${what} took over ${String(ms)} ms`, { key }));
    }, ms);
    timer.unref();
    promise.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
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
