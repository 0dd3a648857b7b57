/**
 * The way to Redis: every command passes through here, under a timeout and the circuit breaker, and what goes wrong
 * comes out as an error of ours. Which store speaks to it, with the module or without, is found out by the first.
 */
import { Breaker, type BreakerState } from "./breaker.js";
import { classify, isUnknownCommand, Unavailable, type CacheFlowError } from "./errors.js";
import type { Events } from "./events.js";
import type { Link } from "./link/link.js";
import type { Resolved } from "./options.js";
import { detect } from "./store/detect.js";
import { ModuleStore } from "./store/module.js";
import { PlainStore } from "./store/plain.js";
import type { Store } from "./store/store.js";
import { Deadlines, Pending } from "./timing.js";

/** How a command is sent. */
export interface CallOptions<T = unknown> {
  /** Ms that it may take beyond the timeout: what the server may hold it for. */
  readonly extra?: number;
  /** False: it must not be sent a second time, for the first may have been done. */
  readonly twice?: boolean;
  /** It must be sent now or not at all: done later it would overwrite what others did meanwhile. */
  readonly now?: boolean;
  /** Given what comes after the time is up: a lease that nobody knows of would keep everybody waiting. */
  readonly late?: (value: T) => void;
}

type Work<T> = (store: Store) => Promise<T>;

export class Server {
  readonly link: Link;
  readonly #options: Resolved;
  readonly #breaker: Breaker;
  readonly #owned: boolean;
  readonly #deadlines: Deadlines;
  #store: Store | undefined;
  #finding: Promise<Store> | undefined;
  #closed = false;
  /** Called when it can be reached again. */
  onRecovery: (() => void) | undefined;

  constructor(link: Link, options: Resolved, events: Events, owned: boolean) {
    this.link = link;
    this.#options = options;
    this.#owned = owned;
    this.#deadlines = new Deadlines(options.timeout);
    this.#breaker = new Breaker({
      failures: options.breakerFailures,
      cooldown: options.breakerCooldown,
      onChange: (state) => {
        events.tell("breaker", "", 0, state);
        if (state === "closed") this.onRecovery?.();
      },
    });
    if (options.mode !== "auto") this.#store = this.#make(options.mode);
  }

  get breaker(): BreakerState {
    return this.#breaker.state;
  }

  /** The store, if it has been found already. */
  get store(): Store | undefined {
    return this.#store;
  }

  /** The store, asked of the server if need be. @throws CacheFlowError */
  find(): Promise<Store> {
    return this.call((store) => Promise.resolve(store));
  }

  /**
   * Performs work on the store. Refused at once while the breaker is open. Where the connection broke it is done once
   * more, unless it must not be done `twice`. @throws CacheFlowError
   */
  call<T>(work: Work<T>, key?: string, options: CallOptions<T> = {}): Promise<T> {
    if (!this.#breaker.closed) {
      this.#probe();
      return Promise.reject(new Unavailable("breaker_open", "the breaker is open", { key }));
    }
    return this.insist(work, key, options);
  }

  /** The same whatever the breaker says: for what must be tried, invalidations above all. */
  insist<T>(work: Work<T>, key?: string, options: CallOptions<T> = {}): Promise<T> {
    if (this.#closed) return Promise.reject(new Unavailable("closed", "the cache was closed", { key }));
    if (options.now === true && !this.link.usable()) {
      return Promise.reject(new Unavailable("connection", "there is no connection", { key }));
    }
    const store = this.#store;
    const done = store === undefined ? this.#found().then(work) : work(store);
    const extra = options.extra ?? 0;
    return new Promise((resolve, reject) => {
      let late = false;
      const pending = new Pending(() => {
        late = true;
        const ms = String(this.#options.timeout + extra);
        reject(this.#failed(new Unavailable("timeout", `no answer within ${ms} ms`, { key }), key));
      });
      const deadlines = extra === 0 ? this.#deadlines : new Deadlines(this.#options.timeout + extra);
      deadlines.add(pending);
      done.then(
        (value) => {
          if (late) {
            options.late?.(value);
            return;
          }
          deadlines.delete(pending);
          this.#breaker.success();
          resolve(value);
        },
        (thrown: unknown) => {
          if (late) return;
          deadlines.delete(pending);
          const again = options.twice !== false && classify(thrown).code === "connection";
          if (again) resolve(this.insist(work, key, { ...options, twice: false }));
          else reject(this.#failed(thrown, key));
        },
      );
    });
  }

  #failed(thrown: unknown, key: string | undefined): CacheFlowError {
    const error = classify(thrown, key);
    if (error instanceof Unavailable) {
      const before = this.#breaker.state;
      this.#breaker.failure();
      // A connection that answers nobody may be one that only we still believe in.
      const opened = before !== "open" && this.#breaker.state === "open";
      if (opened && error.code === "timeout") this.link.reconnect();
    } else this.#breaker.success();
    // The module has gone or come with a restart: found out anew.
    if (isUnknownCommand(error) && this.#options.mode === "auto") this.#store = undefined;
    return error;
  }

  #make(mode: "module" | "plain"): Store {
    return mode === "module" ? new ModuleStore(this.link) : new PlainStore(this.link, this.#options.delimiter);
  }

  #found(): Promise<Store> {
    this.#finding ??= detect(this.link, this.#options.delimiter)
      .then((store) => (this.#store = store))
      .finally(() => (this.#finding = undefined));
    return this.#finding;
  }

  /** Behind whoever comes first after the cool-down, who does not wait for it. */
  #probe(): void {
    if (!this.#breaker.takeProbe()) return;
    const ping = async (store: Store): Promise<void> => {
      await store.ping();
    };
    this.insist(ping, undefined, { twice: false }).catch(() => undefined); // told to the breaker, which is all that it is for
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#owned) await this.link.close();
  }
}
