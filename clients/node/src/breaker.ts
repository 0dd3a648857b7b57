/**
 * A circuit breaker.
 *
 * ```
 *            `failures` in a row                 `cooldown` over, one caller probes
 *  closed ─────────────────────────▶ open ─────────────────────────▶ half-open
 *    ▲                                ▲                                 │    │
 *    │                                └────────── the probe failed ─────┘    │
 *    └───────────────────────────────────────── the probe succeeded ─────────┘
 * ```
 *
 * It has no timer: time is looked at when somebody asks. While it is open or half-open nobody but the one
 * that probes is let through, so that an outage costs callers nothing.
 */
export type BreakerState = "closed" | "open" | "half-open";

export interface BreakerOptions {
  /** Failures in a row that open it. */
  readonly failures: number;
  /** Milliseconds before it is probed. */
  readonly cooldown: number;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
  readonly onChange?: (state: BreakerState) => void;
}

export class Breaker {
  #state: BreakerState = "closed";
  #failed = 0;
  #openedAt = 0;
  readonly #options: BreakerOptions;
  readonly #now: () => number;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Whether calls may go through. */
  get closed(): boolean {
    return this.#state === "closed";
  }

  /** True for exactly one caller once the cool-down is over: it must probe, and then tell how that went. */
  takeProbe(): boolean {
    if (this.#state !== "open" || this.#now() - this.#openedAt < this.#options.cooldown) return false;
    this.#become("half-open");
    return true;
  }

  success(): void {
    this.#failed = 0;
    if (this.#state === "half-open") this.#become("closed");
  }

  failure(): void {
    this.#failed += 1;
    if (this.#state === "half-open" || (this.#state === "closed" && this.#failed >= this.#options.failures)) {
      this.#openedAt = this.#now();
      this.#become("open");
    }
  }

  #become(state: BreakerState): void {
    this.#state = state;
    if (state === "closed") this.#failed = 0;
    this.#options.onChange?.(state);
  }
}
