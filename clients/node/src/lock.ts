import { milliseconds, type Duration } from "./duration.js";
import { LockError } from "./errors.js";
import type { Events } from "./events.js";
import type { Server } from "./server.js";
import type { SetOptions } from "./writer.js";

export interface LockOptions {
  /** How long it is held unless it is extended or released. */
  readonly ttl: Duration;
  /** How long to wait for it; waiters are served first come first served. 0 unless named. */
  readonly wait?: Duration | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A lock that is held: `await using lock = await cache.lock("nightly", { ttl: "30s" })`.
 *
 * `token` is a fencing token: it is greater than that of every earlier holder. Pass it on to what the lock protects,
 * which refuses a lower one than it has seen; a holder that was stopped for longer than `ttl` does not know it.
 */
export class Lock implements AsyncDisposable {
  /** The full name. */
  readonly name: string;
  readonly token: number;
  readonly #server: Server;
  readonly #events: Events;
  readonly #set: (value: unknown, options: SetOptions) => Promise<boolean>;
  #released = false;

  /** @internal */
  constructor(
    name: string,
    token: number,
    server: Server,
    events: Events,
    set: (value: unknown, options: SetOptions) => Promise<boolean>,
  ) {
    this.name = name;
    this.token = token;
    this.#server = server;
    this.#events = events;
    this.#set = set;
  }

  /** From now on, so long. @throws LockError `lost`, Unavailable, ServerError */
  async extend(ttl: Duration): Promise<void> {
    const ms = milliseconds(ttl, "ttl");
    const held = await this.#server.insist((store) => store.extend(this.name, this.token, ms), this.name);
    if (held) return;
    this.#events.tell("lock", this.name, 0, "lost");
    throw new LockError("lost", "it ran out, or was released", { key: this.name });
  }

  /** Gives it up. False: it was no longer held. @throws Unavailable, ServerError */
  async release(): Promise<boolean> {
    this.#released = true;
    const held = await this.#server.insist((store) => store.unlock(this.name, this.token), this.name);
    this.#events.tell("lock", this.name, 0, held ? "released" : "lost");
    return held;
  }

  /**
   * Stores a value under the lock's own name and gives the lock up: what a writer that locked `product:1` and wrote its
   * database does last. False: somebody else has written meanwhile, and it was not stored. @throws EncodeError
   */
  async publish(value: unknown, options: Omit<SetOptions, "token" | "when"> = {}): Promise<boolean> {
    this.#released = true;
    return this.#set(value, { ...options, token: this.token });
  }

  /** Releases it, unless that was done. A lock that cannot be released runs out. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#released) await this.release();
  }
}
